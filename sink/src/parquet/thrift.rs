//! As much of Thrift's compact protocol as it takes to look at a footer and at pages before the
//! library does. What isn't written as writers write it (fields in order, each of its type) is
//! refused, so that the library reads the same out of the same bytes.

pub(super) type Result<T> = std::result::Result<T, String>;

/// Types of fields, as they stand in a field's head.
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const BYTE: u8 = 3;
pub(super) const I32: u8 = 5;
pub(super) const I64: u8 = 6;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

pub(super) struct Thrift<'a> {
    bytes: &'a [u8],
    /// How much of them is read.
    pub(super) at: usize,
}

impl<'a> Thrift<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("ends in the middle of its description")?;
        self.at += count;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number of its description is too long".into())
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        i32::try_from(self.i64()?).map_err(|why| why.to_string())
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|why| why.to_string())?;
        self.take(length)
    }

    /// The type of a list's items, and how many there are.
    pub(super) fn list(&mut self) -> Result<(u8, u64)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((head & 15, count))
    }

    /// Calls `read` with number and type of each field of a struct, which has to read it.
    pub(super) fn fields(
        &mut self,
        mut read: impl FnMut(&mut Self, u8, u8) -> Result<()>,
    ) -> Result<()> {
        let mut field = 0u8;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            let number = field.checked_add(head >> 4).filter(|number| *number > field);
            field = number.ok_or("fields of its description are not in order")?;
            read(self, field, head & 15)?;
        }
    }

    /// A struct of plain values that nobody asks for.
    pub(super) fn skip_plain(&mut self) -> Result<()> {
        self.fields(|thrift, field, kind| match kind {
            TRUE | FALSE => Ok(()),
            BYTE => thrift.byte().map(drop),
            I32 | I64 => thrift.i64().map(drop),
            BINARY => thrift.binary().map(drop),
            kind => Err(unknown(field, kind)),
        })
    }
}

pub(super) fn unknown(field: u8, kind: u8) -> String {
    format!("its description has a field that is not known (number {field}, type {kind})")
}
