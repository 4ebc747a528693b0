//! The file's rows, as they stand.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use chrono::{NaiveDate, NaiveDateTime};
use csv::ByteRecord;
use liblzma::read::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};
use rustc_hash::FxHashMap;
use stocktide_domain::Money;

/// The columns, in the order in which [`Rows`] keeps their values.
pub const COLUMNS: [&str; 8] = [
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
];

/// What unpacking may take of memory: the file itself says how much it wants, up to 4 GiB. xz's highest preset wants 65 MiB.
const UNPACKING_BYTES: u64 = 256 * 1024 * 1024;
/// The longest file once it is unpacked, in bytes; the data set has 45 million.
const FILE_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// A reader that refuses to go on beyond a length.
struct Bounded<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let Some(left) = self.left.checked_sub(read as u64) else {
            return Err(io::Error::other(format!("it unpacks to more than {FILE_BYTES} bytes")));
        };
        self.left = left;
        Ok(read)
    }
}

/// One row. The text columns are indices into the [`Texts`] of [`Rows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Row {
    /// Into [`Rows::invoices`].
    pub invoice: u32,
    /// Into [`Rows::codes`].
    pub code: u32,
    /// Into [`Rows::descriptions`]; may be an empty text.
    pub description: u32,
    /// Units; negative where they come back or are written off.
    pub quantity: i64,
    /// The local time in London, to the minute.
    pub at: NaiveDateTime,
    /// Per unit, in pounds.
    pub price: Money,
    /// Into [`Rows::customers`]; may be an empty text.
    pub customer: u32,
    /// Into [`Rows::countries`].
    pub country: u32,
}

/// The whole file.
#[derive(Debug, Default)]
pub struct Rows {
    /// In the file's order.
    pub rows: Vec<Row>,
    /// `InvoiceNo`.
    pub invoices: Texts,
    /// `StockCode`, as written.
    pub codes: Texts,
    /// `Description`, as written.
    pub descriptions: Texts,
    /// `CustomerID`.
    pub customers: Texts,
    /// `Country`.
    pub countries: Texts,
}

/// The distinct texts of a column, by order of appearance.
#[derive(Debug, Default)]
pub struct Texts {
    texts: Vec<Box<str>>,
    index: FxHashMap<Box<str>, u32>,
}

impl Texts {
    /// The text of an index.
    pub fn get(&self, index: u32) -> &str {
        self.texts.get(index as usize).map_or("", |text| text)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    fn add(&mut self, text: &str) -> u32 {
        if let Some(&at) = self.index.get(text) {
            return at;
        }
        let at = self.texts.len() as u32;
        self.texts.push(text.into());
        self.index.insert(text.into(), at);
        at
    }
}

impl Rows {
    /// Reads a file, plain or compressed by xz (told by its first bytes, not its name).
    ///
    /// # Errors
    /// When it cannot be read, lacks a column, or has a row that is not of the format; the line is named.
    pub fn open(path: &Path) -> anyhow::Result<Rows> {
        let read = || -> anyhow::Result<Rows> {
            let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
            let compressed = file.fill_buf()?.starts_with(b"\xfd7zXZ\0");
            if compressed {
                let unpacked = Stream::new_stream_decoder(UNPACKING_BYTES, CONCATENATED)?;
                Rows::read(Bounded { input: XzDecoder::new_stream(file, unpacked), left: FILE_BYTES })
            } else {
                Rows::read(file)
            }
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    /// Reads CSV.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn read(input: impl Read) -> anyhow::Result<Rows> {
        let mut csv = csv::ReaderBuilder::new().buffer_capacity(1 << 17).from_reader(input);
        let places = places(csv.byte_headers()?)?;
        let mut out = Rows::default();
        let mut record = ByteRecord::new();
        let mut last_time: (Vec<u8>, NaiveDateTime) = (Vec::new(), NaiveDateTime::default());
        while csv.read_byte_record(&mut record)? {
            let row = out
                .row(&record, &places, &mut last_time)
                .with_context(|| format!("line {}", record.position().map_or(0, csv::Position::line)))?;
            out.rows.push(row);
        }
        Ok(out)
    }

    fn row(
        &mut self,
        record: &ByteRecord,
        places: &[usize; 8],
        last_time: &mut (Vec<u8>, NaiveDateTime),
    ) -> anyhow::Result<Row> {
        let text = |column: usize| -> anyhow::Result<&str> {
            let bytes = record.get(places[column]).unwrap_or_default();
            std::str::from_utf8(bytes).map_err(|_| anyhow!("{} is not UTF-8", COLUMNS[column]))
        };
        let wrong = |column: usize, allowed: &str| {
            let value = text(column).unwrap_or_default();
            anyhow!("{} is {value:?}; it must be {allowed}", COLUMNS[column])
        };
        for column in [0, 1] {
            if text(column)?.trim().is_empty() {
                return Err(wrong(column, "a text that is not empty"));
            }
        }
        // The rows of an invoice follow one another and share their time.
        let time = record.get(places[4]).unwrap_or_default();
        if time != last_time.0 {
            let parsed = parse_time(text(4)?)
                .ok_or_else(|| wrong(4, "month/day/year hour:minute, such as 12/1/2010 8:26"))?;
            *last_time = (time.to_vec(), parsed);
        }
        Ok(Row {
            invoice: self.invoices.add(text(0)?.trim()),
            code: self.codes.add(text(1)?.trim()),
            description: self.descriptions.add(text(2)?),
            quantity: units(text(3)?).ok_or_else(|| wrong(3, "a whole number from -10000000 to 10000000"))?,
            at: last_time.1,
            price: Money::parse(text(5)?)
                .map_err(|error| wrong(5, &format!("a decimal with at most 4 decimals ({error})")))?,
            customer: self.customers.add(text(6)?.trim()),
            country: self.countries.add(text(7)?),
        })
    }
}

/// As many units as a line of an event may have, or as few.
fn units(text: &str) -> Option<i64> {
    const MOST: i64 = 10_000_000;
    text.parse().ok().filter(|units| (-MOST..=MOST).contains(units))
}

/// Where each of the [`COLUMNS`] stands.
fn places(header: &ByteRecord) -> anyhow::Result<[usize; 8]> {
    let mut places = [0; 8];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let found = header.iter().position(|name| name == column.as_bytes());
        let Some(found) = found else {
            bail!("line 1: the column {column} is missing; an Online Retail file has {}", COLUMNS.join(","));
        };
        *place = found;
    }
    Ok(places)
}

/// `12/1/2010 8:26`.
fn parse_time(text: &str) -> Option<NaiveDateTime> {
    let (date, time) = text.split_once(' ')?;
    let mut date = date.splitn(3, '/');
    let (month, day, year) =
        (date.next()?.parse().ok()?, date.next()?.parse().ok()?, date.next()?.parse().ok()?);
    let (hour, minute) = time.split_once(':')?;
    NaiveDate::from_ymd_opt(year, month, day)?.and_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn refused(line: &str) -> String {
        format!("{:#}", Rows::read(format!("{HEADER}{line}\n").as_bytes()).unwrap_err())
    }

    #[test]
    fn a_row_is_read_as_it_stands() {
        let text = format!(
            "{HEADER}536365,85123a,\"HEART, \"\"WHITE\"\" \",6,12/1/2010 8:26,2.55,17850,United Kingdom\n"
        );
        let file = Rows::read(text.as_bytes()).unwrap();
        let row = file.rows[0];
        assert_eq!(
            (file.codes.get(row.code), file.descriptions.get(row.description), row.quantity),
            ("85123a", "HEART, \"WHITE\" ", 6)
        );
        assert_eq!(
            (row.price, row.at.to_string()),
            (Money::from_ten_thousandths(25_500), "2010-12-01 08:26:00".into())
        );
    }

    #[test]
    fn columns_may_stand_in_any_order() {
        let text = "Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\n\
                    France,1,0.001,1/31/2011 17:05,-1,,POST,C1\n";
        let file = Rows::read(text.as_bytes()).unwrap();
        assert_eq!(
            (file.invoices.get(0), file.codes.get(0), file.countries.get(0)),
            ("C1", "POST", "France")
        );
        assert_eq!(file.rows[0].price.to_string(), "0.001");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert!(
            refused("1,A,x,1.5,12/1/2010 8:26,1,,UK")
                .contains("line 2: Quantity is \"1.5\"; it must be a whole number")
        );
        assert!(refused("1,A,x,1,2010-12-01,1,,UK").contains("line 2: InvoiceDate is \"2010-12-01\""));
        assert!(refused("1,A,x,1,2/30/2010 8:26,1,,UK").contains("InvoiceDate"));
        assert!(refused("1,A,x,1,12/1/2010 8:26,1.23456,,UK").contains("more than 4 decimals"));
        assert!(refused("1, ,x,1,12/1/2010 8:26,1,,UK").contains("StockCode"));
        assert!(refused("1,A,x").contains("line: 2"));
        let text = HEADER.replace("UnitPrice", "Price");
        let error = format!("{:#}", Rows::read(text.as_bytes()).unwrap_err());
        assert!(error.contains("the column UnitPrice is missing"), "{error}");
    }

    #[test]
    fn a_reader_goes_no_further_than_it_may() {
        let mut text = String::new();
        Bounded { input: &b"12345"[..], left: 5 }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "12345");
        let refused = Bounded { input: &b"123456"[..], left: 5 }.read_to_string(&mut text).unwrap_err();
        assert!(refused.to_string().contains("unpacks to more than"), "{refused}");
    }

    #[test]
    fn a_file_that_wants_too_much_memory_to_be_unpacked_is_refused() {
        // A dictionary of 512 MiB, of which nothing is used.
        let mut filters = liblzma::stream::Filters::new();
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(512 * 1024 * 1024);
        filters.lzma2(&options);
        let encoder = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
        let mut packed = Vec::new();
        liblzma::read::XzEncoder::new_stream(&b"InvoiceNo\n"[..], encoder).read_to_end(&mut packed).unwrap();
        let path = std::env::temp_dir().join(format!("stocktide-greedy-{}.xz", std::process::id()));
        std::fs::write(&path, packed).unwrap();
        let refused = format!("{:#}", Rows::open(&path).unwrap_err());
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains("memory") || refused.contains("MemLimit"), "{refused}");
    }
}
