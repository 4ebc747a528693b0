//! Gives the rights of [`rights`](super::rights): the client library can, and its safe interface cannot.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_AclOperation_t as Operation;
use rdkafka::bindings::rd_kafka_AclPermissionType_t::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW as ALLOW;
use rdkafka::bindings::rd_kafka_ResourcePatternType_t as Pattern;
use rdkafka::bindings::rd_kafka_ResourceType_t as Kind;

use super::rights::Rights;
use super::{LogContext, admin, client_config};
use crate::Config;

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gives rights, each to its principal (`User:name`); what is given already stays. It blocks. Answers how many ACLs these are.
///
/// # Errors
/// One line, when the brokers do not answer, refuse, or have no authorizer.
pub fn give(config: &Config, wanted: &[(String, Rights)]) -> anyhow::Result<usize> {
    config.kafka_brokers()?;
    let admin = admin(&client_config(config), LogContext)?;
    let mut bindings = Bindings(Vec::new());
    for (principal, rights) in wanted {
        for name in &rights.names {
            for operation in &rights.operations {
                bindings.add(principal, rights, name, operation)?;
            }
        }
    }
    let count = bindings.0.len();
    // SAFETY: the client outlives the call, the bindings do too, and the queue and the event are freed exactly once, after their
    // last use. What the event holds is copied before it is freed.
    unsafe {
        let client = admin.inner().native_ptr();
        let queue = rd::rd_kafka_queue_new(client);
        rd::rd_kafka_CreateAcls(client, bindings.0.as_mut_ptr(), count, std::ptr::null(), queue);
        let deadline = Instant::now() + PATIENCE;
        let mut outcome = Err(anyhow::anyhow!("the brokers did not answer within {} s", PATIENCE.as_secs()));
        while Instant::now() < deadline {
            let event = rd::rd_kafka_queue_poll(queue, 500);
            if event.is_null() {
                continue;
            }
            let is_answer = rd::rd_kafka_event_type(event) == rd::RD_KAFKA_EVENT_CREATEACLS_RESULT;
            if is_answer {
                outcome = read(event);
            }
            rd::rd_kafka_event_destroy(event);
            if is_answer {
                break;
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        outcome.map(|()| count)
    }
}

/// # Safety
/// The event is an answer to CreateAcls, and lives.
unsafe fn read(event: *mut rd::rd_kafka_event_t) -> anyhow::Result<()> {
    // SAFETY: as the caller says; the texts belong to the event.
    unsafe {
        if rd::rd_kafka_event_error(event) != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            anyhow::bail!("{}", text(rd::rd_kafka_event_error_string(event)));
        }
        let result = rd::rd_kafka_event_CreateAcls_result(event);
        let mut count = 0;
        let results = rd::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
        for index in 0..count {
            let error = rd::rd_kafka_acl_result_error(*results.add(index));
            if !error.is_null() {
                anyhow::bail!("{}", text(rd::rd_kafka_error_string(error)));
            }
        }
    }
    Ok(())
}

/// # Safety
/// The text ends with NUL, or is null.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: as the caller says.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// ACLs in the library's form.
struct Bindings(Vec<*mut rd::rd_kafka_AclBinding_t>);

impl Bindings {
    fn add(&mut self, principal: &str, rights: &Rights, name: &str, operation: &str) -> anyhow::Result<()> {
        let kind = match rights.kind {
            "topic" => Kind::RD_KAFKA_RESOURCE_TOPIC,
            "group" => Kind::RD_KAFKA_RESOURCE_GROUP,
            _ => Kind::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID,
        };
        let pattern = if rights.prefixed {
            Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED
        } else {
            Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL
        };
        let operation = match operation {
            "Read" => Operation::RD_KAFKA_ACL_OPERATION_READ,
            "Write" => Operation::RD_KAFKA_ACL_OPERATION_WRITE,
            "Create" => Operation::RD_KAFKA_ACL_OPERATION_CREATE,
            "DescribeConfigs" => Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
            "AlterConfigs" => Operation::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
            _ => Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        };
        let (name, principal) = (CString::new(name)?, CString::new(principal)?);
        let mut reason: [c_char; 256] = [0; 256];
        // SAFETY: the texts end with NUL and are copied, and the buffer is as long as is said.
        let binding = unsafe {
            rd::rd_kafka_AclBinding_new(
                kind,
                name.as_ptr(),
                pattern,
                principal.as_ptr(),
                c"*".as_ptr(),
                operation,
                ALLOW,
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        if binding.is_null() {
            // SAFETY: librdkafka ends what it writes with NUL.
            anyhow::bail!("{}", unsafe { text(reason.as_ptr()) });
        }
        self.0.push(binding);
        Ok(())
    }
}

impl Drop for Bindings {
    fn drop(&mut self) {
        // SAFETY: each was made by the library, and is freed here alone.
        unsafe { rd::rd_kafka_AclBinding_destroy_array(self.0.as_mut_ptr(), self.0.len()) }
    }
}
