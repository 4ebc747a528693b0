//! A message's headers.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::CStr;
use std::{ptr, slice};

use rdkafka::bindings as rd;
use rdkafka::message::BorrowedMessage;

/// A header: its name, and its value if it has one.
pub type Header<'m> = (Cow<'m, str>, Option<&'m [u8]>);

/// A message's headers, in their order. The client's own accessor panics on a name that is not UTF-8, and no input may do
/// that; here such a name has its foreign bytes replaced by U+FFFD.
pub fn headers<'m>(message: &'m BorrowedMessage<'_>) -> Vec<Header<'m>> {
    let mut headers = Vec::new();
    // SAFETY: the message lives as long as its borrow, and with it its headers, names and values.
    unsafe {
        let mut list = ptr::null_mut();
        let found = rd::rd_kafka_message_headers(message.ptr(), &raw mut list);
        if found != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        for at in 0.. {
            let found = rd::rd_kafka_header_get_all(list, at, &raw mut name, &raw mut value, &raw mut length);
            if found != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            let bytes: Option<&'m [u8]> =
                (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), length));
            headers.push((CStr::from_ptr(name).to_string_lossy(), bytes));
        }
    }
    headers
}
