#![allow(clippy::unwrap_used)]
//! Files that are made to end their reader.
use std::{fs, path::Path, sync::Arc};

use arrow::{
    array::{Array, DictionaryArray, Int32Array, RecordBatch, StringArray, UInt64Array},
    datatypes::Int32Type,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, Encoding},
    file::{
        properties::{WriterProperties, WriterVersion},
        reader::{FileReader, SerializedFileReader},
    },
};

use super::*;

fn number(value: i64, to: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

/// Fields of a struct: number, type, bytes.
fn fields(of: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut last = 0;
    for (field, kind, value) in of {
        bytes.push((field - last) << 4 | kind);
        bytes.extend(value);
        last = *field;
    }
    bytes.push(0);
    bytes
}

fn int(field: u8, value: i64) -> (u8, u8, Vec<u8>) {
    let mut bytes = Vec::new();
    number(value, &mut bytes);
    (field, 5, bytes)
}

fn long(field: u8, value: i64) -> (u8, u8, Vec<u8>) {
    (field, 6, int(field, value).2)
}

fn list(field: u8, kind: u8, items: &[Vec<u8>]) -> (u8, u8, Vec<u8>) {
    let mut bytes = vec![0xf0 | kind];
    let mut count = items.len();
    while count >= 0x80 {
        bytes.push(count as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
    bytes.extend(items.concat());
    (field, 9, bytes)
}

fn text(field: u8, value: &str) -> (u8, u8, Vec<u8>) {
    (field, 8, [&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat())
}

fn group(children: i64) -> Vec<u8> {
    fields(&[int(3, 0), text(4, "g"), int(5, children)])
}

/// A file of these bytes, schema and row groups.
fn file(at: &Path, body: &[u8], schema: &[Vec<u8>], groups: &[Vec<u8>]) {
    let footer = fields(&[int(1, 1), list(2, 12, schema), long(3, 1), list(4, 12, groups)]);
    let length = u32::try_from(footer.len()).unwrap().to_le_bytes();
    fs::write(at, [b"PAR1", body, &footer, &length, b"PAR1"].concat()).unwrap();
}

/// A required column of text, and one row group that has a page of it at `place`.
fn texts(at: &Path, page: &[u8], place: i64) {
    column(at, page, place, fields(&[int(1, 6), int(3, 0), text(4, "t"), int(6, 0)]), 6);
}

fn column(at: &Path, page: &[u8], place: i64, leaf: Vec<u8>, kind: i64) {
    packed(at, page, place, leaf, (kind, 6));
}

/// The same, packed by a codec's number.
fn packed(at: &Path, page: &[u8], place: i64, leaf: Vec<u8>, (kind, codec): (i64, i64)) {
    let of = fields(&[
        int(1, kind),
        list(2, 5, &[]),
        list(3, 8, &[text(1, "t").2]),
        int(4, codec),
        long(5, 1),
        long(6, 1),
        long(7, i64::try_from(page.len()).unwrap()),
        long(9, place),
    ]);
    let chunk = fields(&[long(2, 0), (3, 12, of)]);
    let group_of = fields(&[list(1, 12, &[chunk]), long(2, 1), long(3, 1)]);
    file(at, page, &[group(1), leaf], &[group_of]);
}

/// A page's head: kind, bytes unpacked and packed, and how its values are encoded.
fn page(kind: i64, unpacked: i64, packed: i64, encoding: i64) -> Vec<u8> {
    let values = fields(&[int(1, 1), int(2, encoding), int(3, 3), int(4, 3)]);
    fields(&[int(1, kind), int(2, unpacked), int(3, packed), (5, 12, values)])
}

/// Why it is refused, when it is opened or when it is read.
fn refused(at: &Path) -> String {
    let error = match ParquetReader::open(at, None) {
        Ok(mut reader) => reader.next().unwrap().unwrap_err(),
        Err(error) => error,
    };
    let told = error.to_string();
    let named = told.strip_prefix(&format!("{}: ", at.display()));
    named.unwrap_or_else(|| panic!("{told}: names no file")).to_owned()
}

#[test]
fn a_description_that_nests_or_claims_too_much_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("part-1.parquet");
    let leaf = fields(&[int(1, 1), int(3, 0), text(4, "n")]);
    let mut deep = vec![group(1); 20_000];
    deep.push(leaf.clone());
    file(&at, &[], &deep, &[]);
    assert_eq!(refused(&at), "its schema has 20001 columns, more than 4096");
    file(&at, &[], &deep[16_001..], &[]);
    assert_eq!(refused(&at), "its columns are nested more than 8 deep");
    file(&at, &[], &[group(i64::from(i32::MAX)), leaf.clone()], &[]);
    assert_eq!(refused(&at), "its schema has fewer columns than it says");
    let wide = fields(&[int(1, 7), int(2, i64::from(i32::MAX)), int(3, 0), text(4, "n")]);
    file(&at, &[], &[group(1), wide], &[]);
    assert_eq!(refused(&at), "a column has values of more than 1024 bytes");
    // What the library would take for another field than it is of.
    let other = fields(&[int(1, 1), int(3, 0), text(4, "n"), (5, 8, vec![1, 2])]);
    file(&at, &[], &[group(1), other], &[]);
    assert!(refused(&at).contains("a field that is not known (number 5, type 8)"));
    // A second schema, behind one that is fine.
    let one = fields(&[int(1, 1), list(2, 12, &[group(1), leaf]), long(3, 0), list(4, 12, &[])]);
    let mut two = one[..one.len() - 1].to_vec();
    two.extend([9, 4]);
    two.extend(list(2, 12, &deep).2);
    two.push(0);
    let length = u32::try_from(two.len()).unwrap().to_le_bytes();
    fs::write(&at, [b"PAR1", &two[..], &length, b"PAR1"].concat()).unwrap();
    assert!(ParquetReader::open(&at, None).unwrap().next().is_none());

    fs::write(&at, [b"PAR1", &u32::MAX.to_le_bytes()[..], b"PAR1"].concat()).unwrap();
    assert!(refused(&at).starts_with("unreadable: its description has 4294967295 bytes"));
    fs::write(&at, b"PAR1").unwrap();
    assert_eq!(refused(&at), "unreadable: too short");
}

#[test]
fn a_page_that_claims_too_much_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("part-1.parquet");
    let with = |kind, unpacked, encoding| {
        texts(&at, &[page(kind, unpacked, 8, encoding), vec![0; 8]].concat(), 4);
        refused(&at)
    };
    assert_eq!(
        with(0, i64::from(i32::MAX), 0),
        "row group 0: its pages unpack to 2147483647 bytes at a time"
    );
    // A front is shared with the text before: a page of some bytes has gigabytes.
    assert!(with(0, 8, 7).ends_with("is encoded in a way that is not read here (7)"));
    assert!(with(0, -1, 0).ends_with("has less than no bytes"));
    assert!(with(9, 8, 0).ends_with("has a page of a kind that is not known (9)"));
    let (two, of) = (page(0, 8, 0, 0), int(1, 1).2);
    let head = &two[..two.len() - 1];
    texts(&at, &[head, &[0x3c, 0x15], &of, &[0, 0]].concat(), 4);
    assert!(refused(&at).ends_with("is of two kinds"));
    let many = fields(&[int(1, i64::from(i32::MAX)), int(2, 0), int(3, 3), int(4, 3)]);
    let page_of = fields(&[int(1, 0), int(2, 0), int(3, 0), (5, 12, many)]);
    column(&at, &page_of, 4, fields(&[int(1, 1), int(3, 2), text(4, "t")]), 1);
    assert_eq!(refused(&at), "row group 0: its lists have 4294967295 bytes");
    texts(&at, &page(0, 8, 8, 0), 4);
    assert_eq!(refused(&at), "row group 0: column t: a page is longer than its column");
    for place in [-1, i64::MAX] {
        texts(&at, &page(0, 8, 0, 0), place);
        assert_eq!(refused(&at), "row group 0: column t: is at no place");
    }
}

/// One column of 3,000 numbers.
fn numbers() -> RecordBatch {
    let column = Arc::new(UInt64Array::from_iter_values(0..3000)) as Arc<dyn Array>;
    RecordBatch::try_from_iter([("number", column)]).unwrap()
}

#[test]
fn snappy_is_read_and_what_is_packed_otherwise_is_refused_by_name() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("part-1.parquet");
    let batch = numbers();
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let file = fs::File::create(&at).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let read = ParquetReader::open(&at, None).unwrap().map(Result::unwrap);
    assert_eq!(read.map(|batch| batch.num_rows()).sum::<usize>(), 3000);
    let number = || fields(&[int(1, 6), int(3, 0), text(4, "t"), int(6, 0)]);
    for (codec, name) in [(2, "GZIP"), (4, "BROTLI"), (5, "LZ4"), (7, "LZ4_RAW")] {
        packed(&at, &page(0, 8, 0, 0), 4, number(), (6, codec));
        let told = format!("row group 0: column t: is packed by {name}; zstd and snappy are read");
        assert_eq!(refused(&at), told);
    }
    // Snappy's own head says 4 GiB, the page's 8 bytes.
    let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    packed(&at, &[page(0, 8, 8, 0), bomb.to_vec()].concat(), 4, number(), (6, 1));
    assert!(refused(&at).starts_with("unreadable: "), "{}", refused(&at));
}

/// A file of one column of text, and of a number of texts in its dictionary.
fn repeated(at: &Path, text: &str, rows: usize, version: WriterVersion) {
    let keys = Int32Array::from(vec![0; rows]);
    let values = Arc::new(StringArray::from(vec![text]));
    let column = DictionaryArray::<Int32Type>::new(keys, values);
    let numbers = UInt64Array::from_iter_values(0..rows as u64);
    let batch = RecordBatch::try_from_iter([
        ("text", Arc::new(column) as Arc<dyn Array>),
        ("number", Arc::new(numbers)),
    ])
    .unwrap();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_writer_version(version)
        .set_dictionary_page_size_limit(1 << 30)
        .build();
    // So that it comes back as text.
    let options = ArrowWriterOptions::new().with_properties(properties);
    let options = options.with_skip_arrow_metadata(true);
    let file = fs::File::create(at).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_long_text_that_is_repeated_comes_in_smaller_batches() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("part-1.parquet");
    repeated(&at, &"x".repeat(256 << 10), 3000, WriterVersion::PARQUET_1_0);
    assert!(fs::metadata(&at).unwrap().len() < 1 << 20);
    let batch = ParquetReader::open(&at, None).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 2047);
    repeated(&at, "usual", 20_000, WriterVersion::PARQUET_1_0);
    let batches = ParquetReader::open(&at, None).unwrap();
    let rows: Vec<usize> = batches.map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(rows, [8192, 8192, 3616]);
}

/// What is fine comes first, and what is wrong with the next row group is told.
#[test]
fn row_groups_before_a_bad_one_are_read() {
    let home = tempfile::tempdir().unwrap();
    let at = home.path().join("part-1.parquet");
    let batch = numbers();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1000))
        .set_column_encoding("number".into(), Encoding::PLAIN)
        .set_dictionary_enabled(false);
    let file = fs::File::create(&at).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let file = SerializedFileReader::new(fs::File::open(&at).unwrap()).unwrap();
    let begin = file.metadata().row_group(2).column(0).data_page_offset();
    let mut bytes = fs::read(&at).unwrap();
    bytes[usize::try_from(begin).unwrap()] = 0xff;
    fs::write(&at, bytes).unwrap();
    let mut reader = ParquetReader::open_remains(&at, None).unwrap();
    assert_eq!(reader.by_ref().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2000);
    let [damaged] = reader.damaged() else { panic!("{:?}", reader.damaged()) };
    assert_eq!(damaged.rows_lost, Some(1000));
    assert!(damaged.reason.starts_with("row group 2: column number: a page at "), "{damaged:?}");
}
