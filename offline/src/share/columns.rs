//! What becomes of each column.

use std::{collections::HashMap, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, DictionaryArray, ListArray, RecordBatch, StringArray,
        UInt32Array, UInt64Array,
    },
    compute::cast,
    datatypes::{DataType, Int32Type, Schema, UInt32Type, UInt64Type},
};
use hedgerow_event::calls::CREDENTIALS_GREW;

use super::{Metadata, NAMING, Pseudonyms};
use crate::{Error, Result};

/// Replaced texts that are remembered; when there is no more room all are made anew.
const KNOWN_MAX: usize = 1 << 18;

/// What is done with a column of text, or of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Treatment {
    /// One of a few words of our own.
    Word,
    Host,
    Workload,
    Path,
    Address,
    Digest,
    User,
    /// Always dropped, with a key or without.
    Dropped,
    /// Registers of a call, some of which are users.
    Registers,
}

use Treatment::{Address, Digest, Dropped, Host, Registers, User, Word, Workload};

/// Every column that could name somebody. One of text that isn't here is refused: what a later
/// version adds is not given away by silence.
const TREATMENTS: &[(&str, Treatment)] = &[
    ("kind", Word),
    ("workload", Workload),
    ("program", Treatment::Path),
    ("script", Treatment::Path),
    ("row_reason", Word),
    ("exec_previous_workload", Workload),
    ("exec_previous_program", Treatment::Path),
    ("exec_previous_script", Treatment::Path),
    ("exec_parent_workload", Workload),
    ("exec_parent_program", Treatment::Path),
    ("exec_parent_script", Treatment::Path),
    ("exec_uid_before", User),
    ("exec_uid", User),
    ("exec_login_uid", User),
    ("exec_path", Treatment::Path),
    ("exec_arguments", Dropped),
    ("exec_digest", Digest),
    ("exec_provenance", Word),
    ("call_path", Treatment::Path),
    ("call_arguments", Registers),
    ("flow_phase", Word),
    ("flow_protocol", Word),
    ("flow_direction", Word),
    ("flow_local_address", Address),
    ("flow_peer_address", Address),
    // Of windows.
    ("host", Host),
    ("scale", Word),
    ("schema_hash", Word),
    ("digest", Digest),
];

fn treatment(name: &str) -> Option<Treatment> {
    TREATMENTS.iter().find(|(known, _)| *known == name).map(|(_, treatment)| *treatment)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, of) => is_text(of),
        DataType::List(field) => is_text(field.data_type()),
        other => matches!(
            other,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Binary
        ),
    }
}

/// Refuses a file with a column of text that nobody thought of.
///
/// # Errors
/// Names the column.
pub fn check(path: &Path, schema: &Schema) -> Result<()> {
    let unknown = schema
        .fields()
        .iter()
        .find(|field| is_text(field.data_type()) && treatment(field.name()).is_none());
    unknown.map_or(Ok(()), |field| {
        let why = format!(
            "column `{}`: this version doesn't know whether it names anybody, so that it isn't \
             shared",
            field.name()
        );
        Err(Error::at(path, why))
    })
}

/// Replaces batches, the same by the same.
pub(super) struct Columns {
    pseudonyms: Option<Pseudonyms>,
    known: HashMap<(Treatment, String), String>,
}

impl Columns {
    pub fn new(pseudonyms: Option<Pseudonyms>) -> Self {
        Self { pseudonyms, known: HashMap::new() }
    }

    /// A file's metadata without the names of host and boot.
    pub fn metadata(&mut self, of: &Metadata) -> Metadata {
        let replaced = |(key, value): (&String, &String)| {
            let value = match NAMING.contains(&key.as_str()) {
                true => self.text(Host, value),
                false => value.clone(),
            };
            (key.clone(), value)
        };
        of.iter().map(replaced).collect()
    }

    /// A batch as it is shared.
    pub fn replace(&mut self, path: &Path, batch: &RecordBatch) -> Result<RecordBatch> {
        let numbers = batch.column_by_name("call_number").cloned();
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
            let of = || Error::at(path, format!("column `{}`", field.name()));
            Ok(match treatment(field.name()) {
                None | Some(Word) => Arc::clone(column),
                Some(Dropped) => self.texts(column, Dropped)?,
                Some(_) if self.pseudonyms.is_none() => Arc::clone(column),
                Some(User) => {
                    let users = column.as_primitive_opt::<UInt32Type>().ok_or_else(of)?;
                    let users = users.iter().map(|user| Some(self.user(user?)));
                    Arc::new(users.collect::<UInt32Array>()) as ArrayRef
                }
                Some(Registers) => {
                    let calls = column.as_list_opt::<i32>().ok_or_else(of)?;
                    self.registers(calls, numbers.as_ref())?
                }
                Some(treatment) => self.texts(column, treatment)?,
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(schema, columns)?)
    }

    /// A column of text; of one with a dictionary only the entries are replaced.
    fn texts(&mut self, column: &ArrayRef, treatment: Treatment) -> Result<ArrayRef> {
        if let Some(coded) = column.as_dictionary_opt::<Int32Type>() {
            let values = self.texts(coded.values(), treatment)?;
            let coded = DictionaryArray::try_new(coded.keys().clone(), values)?;
            return Ok(Arc::new(coded));
        }
        let plain = cast(column, &DataType::Utf8)?;
        let texts = plain.as_string::<i32>().iter().map(|text| Some(self.text(treatment, text?)));
        let texts: ArrayRef = Arc::new(texts.collect::<StringArray>());
        Ok(cast(&texts, column.data_type())?)
    }

    fn text(&mut self, treatment: Treatment, text: &str) -> String {
        if treatment == Dropped {
            return String::new();
        }
        let Some(pseudonyms) = &self.pseudonyms else { return text.to_owned() };
        let key = (treatment, text.to_owned());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let made = match treatment {
            Host => pseudonyms.host(text),
            Workload => pseudonyms.workload(text),
            Treatment::Path => pseudonyms.path(text),
            Address => pseudonyms.address(text),
            Digest => pseudonyms.digest(text),
            Word | User | Dropped | Registers => text.to_owned(),
        };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(key, made.clone());
        made
    }

    fn user(&self, user: u32) -> u32 {
        let Some(pseudonyms) = &self.pseudonyms else { return user };
        pseudonyms.user(user)
    }

    /// Registers that hold users, by the call.
    fn registers(&self, calls: &ListArray, numbers: Option<&ArrayRef>) -> Result<ArrayRef> {
        let numbers =
            numbers.and_then(|numbers| numbers.as_primitive_opt::<arrow::datatypes::Int32Type>());
        let mut values: Vec<u64> = calls.values().as_primitive::<UInt64Type>().values().to_vec();
        for row in 0..calls.len() {
            let number = numbers.filter(|numbers| numbers.is_valid(row));
            let Some(number) = number.map(|numbers| numbers.value(row)) else { continue };
            let begin = calls.value_offsets()[row] as usize;
            for at in user_registers(number) {
                if let Some(value) = values.get_mut(begin + at).filter(|_| calls.is_valid(row)) {
                    *value = u64::from(self.user(*value as u32));
                }
            }
        }
        let DataType::List(field) = calls.data_type() else {
            return Ok(Arc::new(calls.clone()));
        };
        let list = ListArray::try_new(
            Arc::clone(field),
            calls.offsets().clone(),
            Arc::new(UInt64Array::from(values)),
            calls.nulls().cloned(),
        )?;
        Ok(Arc::new(list))
    }
}

/// Which registers of a call are users or groups.
fn user_registers(number: i32) -> std::ops::Range<usize> {
    if number == CREDENTIALS_GREW {
        return 0..2;
    }
    match i64::from(number) {
        libc::SYS_setuid | libc::SYS_setgid | libc::SYS_setfsuid | libc::SYS_setfsgid => 0..1,
        libc::SYS_setreuid | libc::SYS_setregid => 0..2,
        libc::SYS_setresuid | libc::SYS_setresgid => 0..3,
        libc::SYS_fchown => 1..3,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_chown | libc::SYS_lchown => 1..3,
        libc::SYS_fchownat => 2..4,
        _ => 0..0,
    }
}
