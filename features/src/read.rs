//! Columns of a batch by name, in the type that the schema says, or a clear error.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, BooleanArray, ListArray, PrimitiveArray, RecordBatch,
        StringArray,
    },
    compute::CastOptions,
    compute::cast_with_options,
    datatypes::{DataType, Field},
};

use crate::Error;

/// A column cast to the type in which it is read.
pub(crate) fn column(
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
pub(crate) struct Numbers<T: ArrowPrimitiveType> {
    name: String,
    array: PrimitiveArray<T>,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub(crate) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let wanted = &T::DATA_TYPE;
        let array = column(batch, name, wanted)?;
        let array = array
            .as_any()
            .downcast_ref::<PrimitiveArray<T>>()
            .ok_or_else(|| wrong_type(name, &array, wanted))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(crate) fn maybe(&self, row: usize) -> Option<T::Native> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    pub(crate) fn get(&self, row: usize) -> Result<T::Native, Error> {
        self.maybe(row).ok_or_else(|| Error::Null { column: self.name.clone(), row })
    }

    pub(crate) fn bad(&self, row: usize, problem: &'static str) -> Error
    where
        T::Native: std::fmt::Display,
    {
        let value = self.maybe(row).map_or_else(String::new, |value| value.to_string());
        Error::Value { column: self.name.clone(), row, value, problem }
    }
}

/// A column of text.
pub(crate) struct Texts {
    name: String,
    array: StringArray,
}

impl Texts {
    pub(crate) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let array = column(batch, name, &DataType::Utf8)?;
        let array = array
            .as_any()
            .downcast_ref::<StringArray>()
            .ok_or_else(|| wrong_type(name, &array, &DataType::Utf8))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(crate) fn maybe(&self, row: usize) -> Option<&str> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    pub(crate) fn get(&self, row: usize) -> Result<&str, Error> {
        self.maybe(row).ok_or_else(|| Error::Null { column: self.name.clone(), row })
    }

    pub(crate) fn bad(&self, row: usize, problem: &'static str) -> Error {
        let value = self.maybe(row).unwrap_or_default().to_owned();
        Error::Value { column: self.name.clone(), row, value, problem }
    }
}

/// A column of truths.
pub(crate) struct Flags {
    name: String,
    array: BooleanArray,
}

impl Flags {
    pub(crate) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let array = column(batch, name, &DataType::Boolean)?;
        let array = array
            .as_any()
            .downcast_ref::<BooleanArray>()
            .ok_or_else(|| wrong_type(name, &array, &DataType::Boolean))?;
        Ok(Self { name: name.to_owned(), array: array.clone() })
    }

    pub(crate) fn maybe(&self, row: usize) -> Option<bool> {
        self.array.is_valid(row).then(|| self.array.value(row))
    }

    pub(crate) fn get(&self, row: usize) -> Result<bool, Error> {
        self.maybe(row).ok_or_else(|| Error::Null { column: self.name.clone(), row })
    }
}

/// A column of lists of numbers.
pub(crate) struct Lists<T: ArrowPrimitiveType> {
    name: String,
    array: ListArray,
    values: PrimitiveArray<T>,
}

impl<T: ArrowPrimitiveType> Lists<T> {
    pub(crate) fn open(batch: &RecordBatch, name: &str) -> Result<Self, Error> {
        let wanted = DataType::List(Arc::new(Field::new_list_field(T::DATA_TYPE, true)));
        let array = column(batch, name, &wanted)?;
        let list = array
            .as_any()
            .downcast_ref::<ListArray>()
            .ok_or_else(|| wrong_type(name, &array, &wanted))?;
        let values = list
            .values()
            .as_any()
            .downcast_ref::<PrimitiveArray<T>>()
            .ok_or_else(|| wrong_type(name, &array, &wanted))?;
        Ok(Self { name: name.to_owned(), array: list.clone(), values: values.clone() })
    }

    /// A list of any length.
    pub(crate) fn all(&self, row: usize) -> Result<&[T::Native], Error> {
        if self.array.is_null(row) {
            return Err(Error::Null { column: self.name.clone(), row });
        }
        let offsets = self.array.value_offsets();
        let range = offsets[row] as usize..offsets[row + 1] as usize;
        if range.clone().any(|at| self.values.is_null(at)) {
            return Err(self.bad(row, range.len(), "a list with an empty place"));
        }
        Ok(&self.values.values()[range])
    }

    /// A list of exactly `N` numbers.
    pub(crate) fn get<const N: usize>(&self, row: usize) -> Result<[T::Native; N], Error> {
        let list = self.all(row)?;
        list.try_into().map_err(|_| self.bad(row, list.len(), "a list of another length"))
    }

    fn bad(&self, row: usize, length: usize, problem: &'static str) -> Error {
        let value = format!("{length} numbers");
        Error::Value { column: self.name.clone(), row, value, problem }
    }
}
