//! What a file may ask for. The library believes a file about nesting and sizes: one that is made for
//! it would overflow the stack or take all memory, and end the process. So its description is looked
//! at here first, and the head of each page before any is unpacked.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use arrow::datatypes::DataType;
use parquet::{
    arrow::{ProjectionMask, arrow_reader::ArrowReaderMetadata},
    basic::{Compression, Type},
    column::page::{Page, PageReader},
    file::{
        FOOTER_SIZE,
        metadata::{
            ColumnChunkMetaData, FooterTail, ParquetMetaData, ParquetMetaDataOptions,
            ParquetMetaDataReader,
        },
        serialized_reader::SerializedPageReader,
    },
};

use super::thrift::{BINARY, BYTE, FALSE, I32, LIST, Result, STRUCT, TRUE, Thrift, unknown};

/// Ours take some kilobytes for each row group.
const FOOTER_BYTES_MAX: usize = 16 << 20;
/// Columns and groups of columns.
const ELEMENTS_MAX: u64 = 4096;
/// A list is three levels below the root.
const DEPTH_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 1024;
/// Of a column of fixed length.
const LENGTH_MAX: i32 = 1024;
/// What is unpacked at a time: a dictionary and a page of each column.
const PAGES_BYTES_MAX: u64 = 1 << 30;
/// The values of a batch, were each as long as the longest of its column.
const BATCH_BYTES_MAX: u64 = 512 << 20;
/// Rows of one batch.
const BATCH_ROWS: u64 = 8192;
/// A number with its levels.
const NUMBER_BYTES: u64 = 12;
/// The head of a page, with the extremes that some writers note there.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Dictionaries below that need no look at their values: a batch of the longest would fit.
const DICTIONARY_BYTES_SMALL: u64 = 4096;

const PLAIN: i32 = 0;
const PLAIN_DICTIONARY: i32 = 2;
const RLE: i32 = 3;
const RLE_DICTIONARY: i32 = 8;

const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;
const DATA_PAGE_V2: i32 = 3;

/// Reads the description at the end of a file.
pub(super) fn footer(file: &File) -> Result<ArrowReaderMetadata> {
    let told = |why: &dyn std::error::Error| format!("unreadable: {why}");
    let bytes = file.metadata().map_err(|why| told(&why))?.len();
    let mut tail = [0; FOOTER_SIZE];
    let end = bytes.checked_sub(FOOTER_SIZE as u64).ok_or("unreadable: too short")?;
    file.read_exact_at(&mut tail, end).map_err(|why| told(&why))?;
    let tail = FooterTail::try_new(&tail).map_err(|why| told(&why))?;
    let length = tail.metadata_length();
    if length > FOOTER_BYTES_MAX {
        let most = FOOTER_BYTES_MAX;
        return Err(format!("unreadable: its description has {length} bytes, more than {most}"));
    }
    if tail.is_encrypted_footer() {
        return Err("is encrypted".into());
    }
    let begin = end.checked_sub(length as u64).ok_or("unreadable: cut off")?;
    let mut footer = vec![0; length];
    file.read_exact_at(&mut footer, begin).map_err(|why| told(&why))?;
    schema(&mut Thrift::new(&footer))?;
    // The library gets the schema that was looked at, whatever comes later in the footer.
    let schema = ParquetMetaDataReader::decode_schema(&footer).map_err(|why| told(&why))?;
    let options = ParquetMetaDataOptions::new().with_schema(schema);
    let metadata = ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options));
    let metadata = Arc::new(metadata.map_err(|why| told(&why))?);
    let footer = ArrowReaderMetadata::try_new(metadata, Default::default());
    let footer = footer.map_err(|why| told(&why))?;
    // One that is null has as many values as any other, by what the file says of itself.
    let mut fields = footer.schema().flattened_fields().into_iter();
    match fields.find(|field| matches!(field.data_type(), DataType::FixedSizeList(..))) {
        Some(field) => {
            Err(format!("column {}: is a list of a fixed size", field.name().escape_debug()))
        }
        None => Ok(footer),
    }
}

/// The version, then the schema: a tree, each node followed by those below it.
fn schema(thrift: &mut Thrift) -> Result<()> {
    let begins = thrift.byte()? == (1 << 4 | I32) && thrift.i32().is_ok();
    if !begins || thrift.byte()? != (1 << 4 | LIST) {
        return Err("its description doesn't begin with a schema".into());
    }
    let (kind, elements) = thrift.list()?;
    if kind != STRUCT || elements > ELEMENTS_MAX {
        return Err(format!("its schema has {elements} columns, more than {ELEMENTS_MAX}"));
    }
    // Nodes that are still to come, of each level.
    let mut open = Vec::new();
    for left in (0..elements).rev() {
        let children = element(thrift)?;
        if children > left {
            return Err("its schema has fewer columns than it says".into());
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > DEPTH_MAX {
            return Err(format!("its columns are nested more than {DEPTH_MAX} deep"));
        }
        // A leaf is one less of its level, and so is each group that it completes.
        while children == 0
            && let Some(last) = open.last_mut()
        {
            *last -= 1;
            if *last > 0 {
                break;
            }
            open.pop();
        }
    }
    Ok(())
}

/// How many nodes are directly below this one.
fn element(thrift: &mut Thrift) -> Result<u64> {
    let mut children = 0;
    thrift.fields(|thrift, field, kind| match (field, kind) {
        (2, I32) if thrift.i32()? > LENGTH_MAX => {
            Err(format!("a column has values of more than {LENGTH_MAX} bytes"))
        }
        (2, I32) => Ok(()),
        (4, BINARY) if thrift.binary()?.len() > NAME_BYTES_MAX => {
            Err(format!("a column's name has more than {NAME_BYTES_MAX} bytes"))
        }
        (4, BINARY) => Ok(()),
        (5, I32) => {
            children = u64::try_from(thrift.i32()?).map_err(|why| why.to_string())?;
            Ok(())
        }
        (1 | 3 | 6..=9, I32) => thrift.i32().map(drop),
        (10, STRUCT) => logical_type(thrift),
        (field, kind) => Err(unknown(field, kind)),
    })?;
    Ok(children)
}

/// One of several structs, each of its own fields.
fn logical_type(thrift: &mut Thrift) -> Result<()> {
    thrift.fields(|thrift, which, kind| match (which, kind) {
        (1..=15, STRUCT) => thrift.fields(|thrift, field, kind| match (which, field, kind) {
            // Scale and precision of a decimal.
            (5, 1 | 2, I32) => thrift.i32().map(drop),
            // Of times whether they are UTC, and their unit; of integers width and sign.
            (7 | 8, 1, TRUE | FALSE) | (10, 2, TRUE | FALSE) => Ok(()),
            (7 | 8, 2, STRUCT) => thrift.fields(|thrift, unit, kind| match (unit, kind) {
                (1..=3, STRUCT) => thrift.fields(|_, field, kind| Err(unknown(field, kind))),
                _ => Err(unknown(unit, kind)),
            }),
            (10, 1, BYTE) => thrift.byte().map(drop),
            _ => Err(unknown(field, kind)),
        }),
        _ => Err(unknown(which, kind)),
    })
}

/// How a file can be read within bounds.
pub(super) struct Plan {
    /// Rows of a batch.
    pub(super) rows: usize,
    /// Row groups that can be read ...
    pub(super) groups: Vec<usize>,
    /// ... and what is wrong with the next one.
    pub(super) then: Option<String>,
}

/// What the columns that are read take at most, by the heads of their pages.
pub(super) fn plan(file: &File, metadata: &ParquetMetaData, mask: &ProjectionMask) -> Plan {
    let columns = metadata.file_metadata().schema_descr().num_columns();
    let read: Vec<usize> = (0..columns).filter(|column| mask.leaf_included(*column)).collect();
    let mut most = vec![Column::default(); columns];
    let mut rows = BATCH_ROWS;
    let mut plan = Plan { rows: 0, groups: Vec::new(), then: None };
    for (at, group) in metadata.row_groups().iter().enumerate() {
        let mut with = most.clone();
        let looked = read.iter().try_for_each(|column| {
            with[*column].take(file, group.column(*column), group.num_rows())
        });
        let sum =
            |of: fn(&Column) -> u64| read.iter().map(|column| of(&with[*column])).sum::<u64>();
        let looked = looked.and_then(|()| match (sum(Column::pages), sum(|column| column.lists)) {
            (pages, _) if pages > PAGES_BYTES_MAX => {
                Err(format!("its pages unpack to {pages} bytes at a time"))
            }
            (_, lists) if lists > BATCH_BYTES_MAX => Err(format!("its lists have {lists} bytes")),
            _ => Ok(()),
        });
        if let Err(why) = looked {
            plan.then = Some(format!("row group {at}: {why}"));
            break;
        }
        most = with;
        plan.groups.push(at);
        // So that a batch has rows of two groups at most.
        let of_group = u64::try_from(group.num_rows()).unwrap_or_default();
        if at + 1 < metadata.num_row_groups() && of_group > 0 {
            rows = rows.min(of_group);
        }
    }
    let row_bytes: u64 = read.iter().map(|column| most[*column].longest).sum();
    rows = rows.min(BATCH_BYTES_MAX / row_bytes.max(1)).max(1);
    plan.rows = usize::try_from(rows).unwrap_or(1);
    plan
}

/// The most that a column has shown so far.
#[derive(Debug, Clone, Copy, Default)]
struct Column {
    dictionary: u64,
    page: u64,
    /// Bytes of its longest value, or of a page's values on average.
    longest: u64,
    /// Bytes of the values of a row group, where they are lists'.
    lists: u64,
}

/// What a page says of itself.
#[derive(Default)]
struct Head {
    kind: i32,
    unpacked: u64,
    packed: u64,
    values: u64,
    encodings: Vec<i32>,
}

impl Column {
    fn pages(&self) -> u64 {
        self.dictionary + self.page
    }

    /// Looks at the pages of a row group.
    fn take(&mut self, file: &File, chunk: &ColumnChunkMetaData, rows: i64) -> Result<()> {
        let name = chunk.column_path().string();
        let told = |why: String| format!("column {}: {why}", name.escape_debug());
        self.look(file, chunk, rows).map_err(told)
    }

    fn look(&mut self, file: &File, chunk: &ColumnChunkMetaData, rows: i64) -> Result<()> {
        let begin = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let sizes = (u64::try_from(begin), u64::try_from(chunk.compressed_size()));
        let (Ok(begin), Ok(length)) = sizes else { return Err("is at no place".into()) };
        let bytes = file.metadata().map_err(|why| why.to_string())?.len();
        let end = begin.checked_add(length).filter(|end| *end <= bytes).ok_or("is at no place")?;
        unpacks(chunk.compression())?;
        let texts = chunk.column_type() == Type::BYTE_ARRAY;
        let (mut at, mut values) = (begin, 0u64);
        while at < end {
            let first = at == begin;
            let (head, bytes) = Head::read(file, at, end)?;
            at = at.saturating_add(bytes).saturating_add(head.packed);
            if at > end {
                return Err("a page is longer than its column".into());
            }
            match head.kind {
                DICTIONARY_PAGE if !first => return Err("its dictionary isn't in front".into()),
                DICTIONARY_PAGE => {
                    self.dictionary = self.dictionary.max(head.unpacked);
                    if self.dictionary > PAGES_BYTES_MAX {
                        return Err(format!("a dictionary unpacks to {} bytes", head.unpacked));
                    }
                    if texts {
                        let longest = longest(file, chunk, rows, &head)?;
                        self.longest = self.longest.max(longest);
                    }
                }
                DATA_PAGE | DATA_PAGE_V2 => {
                    self.page = self.page.max(head.unpacked);
                    values = values.saturating_add(head.values);
                    if texts {
                        self.longest = self.longest.max(head.unpacked.div_ceil(head.values.max(1)));
                    }
                }
                kind => return Err(format!("has a page of a kind that is not known ({kind})")),
            }
        }
        if !texts {
            let length = u64::try_from(chunk.column_descr().type_length()).unwrap_or_default();
            self.longest = self.longest.max(length.max(NUMBER_BYTES));
        }
        // One row may have all of them.
        if chunk.column_descr().max_rep_level() > 0 {
            self.lists =
                self.lists.max(values.saturating_mul(self.longest).min(u64::from(u32::MAX)));
        }
        Ok(())
    }
}

/// What other writers use unless they are told otherwise.
fn unpacks(how: Compression) -> Result<()> {
    match how {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_) => Ok(()),
        other => {
            let other = other.to_string();
            let name = other.split('(').next().unwrap_or_default();
            Err(format!("is packed by {name}; zstd and snappy are read"))
        }
    }
}

impl Head {
    /// The head at a place, and how long it is.
    fn read(file: &File, at: u64, end: u64) -> Result<(Self, u64)> {
        let mut why = String::new();
        for room in [256, HEAD_BYTES_MAX] {
            let length = usize::try_from(end - at).unwrap_or(usize::MAX).min(room);
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map_err(|why| format!("unreadable: {why}"))?;
            let mut thrift = Thrift::new(&bytes);
            match Self::of(&mut thrift) {
                Ok(head) => return Ok((head, thrift.at as u64)),
                Err(reason) => why = format!("a page at {at}: {reason}"),
            }
        }
        Err(why)
    }

    fn of(thrift: &mut Thrift) -> Result<Self> {
        let mut head = Self { kind: -1, ..Self::default() };
        let size = |thrift: &mut Thrift| {
            u64::try_from(thrift.i32()?).map_err(|_| "has less than no bytes".to_owned())
        };
        thrift.fields(|thrift, field, kind| {
            match (field, kind) {
                (1, I32) => head.kind = thrift.i32()?,
                (2, I32) => head.unpacked = size(thrift)?,
                (3, I32) => head.packed = size(thrift)?,
                (4, I32) => _ = thrift.i32()?,
                (5 | 7 | 8, STRUCT) => head.values(thrift, field)?,
                _ => return Err(unknown(field, kind)),
            }
            Ok(())
        })?;
        // What isn't compressed is as long as it is, whatever it says.
        head.unpacked = head.unpacked.max(head.packed);
        if let Some(encoding) = head
            .encodings
            .iter()
            .find(|encoding| ![PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY].contains(*encoding))
        {
            return Err(format!("is encoded in a way that is not read here ({encoding})"));
        }
        Ok(head)
    }

    /// The part of a head that is of its kind of page: 5 values, 7 a dictionary, 8 values, newer.
    fn values(&mut self, thrift: &mut Thrift, page: u8) -> Result<()> {
        if !self.encodings.is_empty() {
            return Err("is of two kinds".into());
        }
        thrift.fields(|thrift, field, kind| {
            match (page, field, kind) {
                (_, 1, I32) => {
                    self.values = u64::try_from(thrift.i32()?).map_err(|why| why.to_string())?;
                }
                (5 | 7, 2, I32) | (8, 4, I32) => self.encodings.push(thrift.i32()?),
                (5, 3 | 4, I32) | (8, 2 | 3 | 5 | 6, I32) => _ = thrift.i32()?,
                (7, 3, TRUE | FALSE) | (8, 7, TRUE | FALSE) => {}
                (5, 5, STRUCT) | (8, 8, STRUCT) => thrift.skip_plain()?,
                _ => return Err(unknown(field, kind)),
            }
            Ok(())
        })
    }
}

/// The longest text of a dictionary, which a row may name again and again.
fn longest(file: &File, chunk: &ColumnChunkMetaData, rows: i64, head: &Head) -> Result<u64> {
    if head.unpacked <= DICTIONARY_BYTES_SMALL {
        return Ok(head.unpacked);
    }
    let rows = usize::try_from(rows).unwrap_or_default();
    let file = file.try_clone().map_err(|why| format!("unreadable: {why}"))?;
    let page = SerializedPageReader::new(Arc::new(file), chunk, rows, None)
        .and_then(|mut pages| pages.get_next_page())
        .map_err(|why| format!("unreadable: {why}"))?;
    let Some(Page::DictionaryPage { buf, .. }) = page else {
        return Err("its dictionary isn't in front".into());
    };
    let (mut rest, mut longest) = (&buf[..], 0);
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes(*length);
        let after = after.get(usize::try_from(length).unwrap_or(usize::MAX)..);
        rest = after.ok_or("its dictionary is cut off")?;
        longest = longest.max(u64::from(length));
    }
    Ok(longest)
}
