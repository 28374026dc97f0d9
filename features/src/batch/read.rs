//! Columns of a batch by name, in the type that the schema says, or a clear error.

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
    },
    compute::CastOptions,
    compute::cast_with_options,
    datatypes::DataType,
};

use crate::Error;

/// A column cast to the type in which it is read.
pub(super) fn column(
    batch: &RecordBatch,
    name: &str,
    wanted: &DataType,
) -> Result<ArrayRef, Error> {
    let found = batch.column_by_name(name).ok_or_else(|| Error::MissingColumn(name.to_owned()))?;
    if found.data_type() == wanted {
        return Ok(found.clone());
    }
    // Checked, or a value out of range would silently become "unavailable".
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(found, wanted, &options).map_err(|_| wrong_type(name, found, wanted))
}

fn wrong_type(name: &str, found: &ArrayRef, wanted: &DataType) -> Error {
    Error::ColumnType {
        column: name.to_owned(),
        found: found.data_type().to_string(),
        wanted: wanted.to_string(),
    }
}

/// A column of numbers.
pub(super) struct Numbers<T: ArrowPrimitiveType> {
    name: String,
    array: PrimitiveArray<T>,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub(super) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        Self::open_as(batch, name, &T::DATA_TYPE)
    }

    /// Opens with a type that carries parameters beside the native one (a time zone).
    pub(super) fn open_as(
        batch: &RecordBatch,
        name: &str,
        wanted: &DataType,
    ) -> Result<Self, Error> {
        let array = column(batch, name, wanted)?;
        let array = array
            .as_any()
            .downcast_ref::<PrimitiveArray<T>>()
            .ok_or_else(|| wrong_type(name, &array, wanted))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(super) fn maybe(&self, row: usize) -> Option<T::Native> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    pub(super) fn get(&self, row: usize) -> Result<T::Native, Error> {
        self.maybe(row).ok_or_else(|| Error::Null { column: self.name.clone(), row })
    }

    pub(super) fn bad(&self, row: usize, problem: &'static str) -> Error
    where
        T::Native: std::fmt::Display,
    {
        let value = self.maybe(row).map_or_else(String::new, |value| value.to_string());
        Error::Value { column: self.name.clone(), row, value, problem }
    }
}

/// A column of text.
pub(super) struct Texts {
    name: String,
    array: StringArray,
}

impl Texts {
    pub(super) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let array = column(batch, name, &DataType::Utf8)?;
        let array = array
            .as_any()
            .downcast_ref::<StringArray>()
            .ok_or_else(|| wrong_type(name, &array, &DataType::Utf8))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(super) fn maybe(&self, row: usize) -> Option<&str> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    pub(super) fn get(&self, row: usize) -> Result<&str, Error> {
        self.maybe(row).ok_or_else(|| Error::Null { column: self.name.clone(), row })
    }

    pub(super) fn bad(&self, row: usize, problem: &'static str) -> Error {
        let value = self.maybe(row).unwrap_or_default().to_owned();
        Error::Value { column: self.name.clone(), row, value, problem }
    }
}

/// A column of truths.
pub(super) struct Flags {
    name: String,
    array: BooleanArray,
}

impl Flags {
    pub(super) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let array = column(batch, name, &DataType::Boolean)?;
        let array = array
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| wrong_type(name, &array, &DataType::Boolean))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(super) fn get(&self, row: usize) -> Result<bool, Error> {
        if self.array.is_valid(row) {
            Ok(self.array.value(row))
        } else {
            Err(Error::Null { column: self.name.clone(), row })
        }
    }
}
