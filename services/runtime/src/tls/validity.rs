//! When a certificate expires, read out of its DER (RFC 5280, section 4.1).

use chrono::{DateTime, NaiveDateTime, Utc};

const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity; none: these bytes are no certificate.
///
/// Certificate → tbsCertificate: [version], serialNumber, signature, issuer, validity (notBefore, notAfter), …
pub fn expires_at(der: &[u8]) -> Option<DateTime<Utc>> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if fields.first() == Some(&EXPLICIT_VERSION) {
        (_, _, fields) = next(fields)?;
    }
    for _ in ["serialNumber", "signature", "issuer"] {
        (_, _, fields) = next(fields)?;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (_, _, rest) = next(validity)?;
    let (tag, not_after, _) = next(rest)?;
    time(tag, std::str::from_utf8(not_after).ok()?)
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` from 2050 on.
fn time(tag: u8, text: &str) -> Option<DateTime<Utc>> {
    let full = match tag {
        UTC_TIME => {
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
            format!("{century}{text}")
        }
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    NaiveDateTime::parse_from_str(&full, "%Y%m%d%H%M%SZ").ok().map(|time| time.and_utc())
}

fn expect(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = next(der)?;
    (tag == wanted).then_some((content, rest))
}

/// The tag and the content of the first element, and what follows it.
fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let (bytes, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if bytes.len() > 4 {
            return None;
        }
        length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        for (year, month, day) in [(2031, 4, 5), (2049, 12, 31), (2050, 1, 1), (2120, 6, 30)] {
            let mut asked = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
            asked.not_after = rcgen::date_time_ymd(year, month, day);
            let made = asked.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let wanted = format!("{year}-{month:02}-{day:02}T00:00:00+00:00");
            assert_eq!(expires_at(made.der()).unwrap().to_rfc3339(), wanted);
        }
    }

    #[test]
    fn a_certificate_that_is_cut_short_anywhere_is_none() {
        let made = rcgen::generate_simple_self_signed(vec!["a".to_owned()]).unwrap();
        let der = made.cert.der();
        for end in 0..der.len() {
            assert_eq!(expires_at(&der[..end]), None, "{end}");
        }
        assert!(expires_at(der).is_some());
    }
}
