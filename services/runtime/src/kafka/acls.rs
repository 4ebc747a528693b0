//! Gives the rights of [`rights`](super::rights): the client library can, and its safe interface cannot.
#![allow(unsafe_code)]

use std::collections::HashSet;
use std::ffi::{CStr, CString, c_char};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_AclOperation_t as Operation;
use rdkafka::bindings::rd_kafka_AclPermissionType_t as Permission;
use rdkafka::bindings::rd_kafka_ResourcePatternType_t as Pattern;
use rdkafka::bindings::rd_kafka_ResourceType_t as Kind;

use super::rights::Rights;
use super::{LogContext, admin, client_config};
use crate::Config;

/// How long the brokers may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How soon a broker that does not know them yet is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Gives rights, each to its principal (`User:name`); what is given already stays. It blocks, until they are in force: the
/// controller answers as soon as it has noted them, and until a broker has read them too, it turns away or, worse, shows an empty
/// list of topics. (It is one broker that is asked; others of a cluster may be some milliseconds behind it.) Answers how many ACLs
/// these are.
///
/// # Errors
/// One line, when the brokers do not answer, refuse, or have no authorizer.
pub fn give(config: &Config, wanted: &[(String, Rights)]) -> anyhow::Result<usize> {
    config.kafka_brokers()?;
    let admin = admin(&client_config(config), LogContext)?;
    let client = admin.inner().native_ptr();
    let mut bindings = Bindings(Vec::new());
    for (principal, rights) in wanted {
        for name in &rights.names {
            for operation in &rights.operations {
                bindings.add(principal, rights, name, operation)?;
            }
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let count = bindings.0.len();
    // SAFETY: the client and the bindings outlive the calls, and the event is alive while it is read.
    unsafe {
        ask(
            client,
            rd::RD_KAFKA_EVENT_CREATEACLS_RESULT,
            deadline,
            |event| read_created(event),
            |queue| {
                rd::rd_kafka_CreateAcls(client, bindings.0.as_mut_ptr(), count, std::ptr::null(), queue);
            },
        )?;
        let given: HashSet<Acl> = bindings.0.iter().map(|binding| Acl::of(*binding)).collect();
        let every = Filter::every()?;
        loop {
            let known = ask(
                client,
                rd::RD_KAFKA_EVENT_DESCRIBEACLS_RESULT,
                deadline,
                |event| Ok(read_described(event)),
                |queue| {
                    rd::rd_kafka_DescribeAcls(client, every.0, std::ptr::null(), queue);
                },
            )?;
            if given.is_subset(&known) {
                return Ok(count);
            }
            if Instant::now() >= deadline {
                anyhow::bail!(
                    "the brokers took the ACLs, and do not list them {} s later",
                    PATIENCE.as_secs()
                );
            }
            std::thread::sleep(AGAIN);
        }
    }
}

/// Asks, waits for the answer of this kind, and reads it: whatever of it is needed has to be copied, for it is freed.
///
/// # Safety
/// The client lives, and `send` gives the queue to nothing but a request of that client.
unsafe fn ask<A>(
    client: *mut rd::rd_kafka_t,
    kind: i32,
    deadline: Instant,
    read: impl Fn(*mut rd::rd_kafka_event_t) -> anyhow::Result<A>,
    send: impl FnOnce(*mut rd::rd_kafka_queue_t),
) -> anyhow::Result<A> {
    // SAFETY: as the caller says; the queue and each event are freed exactly once, after their last use.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        send(queue);
        let mut answer = None;
        while answer.is_none() && Instant::now() < deadline {
            let event = rd::rd_kafka_queue_poll(queue, 500);
            if event.is_null() {
                continue;
            }
            if rd::rd_kafka_event_type(event) == kind {
                let error = rd::rd_kafka_event_error(event);
                answer = Some(if error == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    read(event)
                } else {
                    Err(anyhow::anyhow!("{}", text(rd::rd_kafka_event_error_string(event))))
                });
            }
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
        answer.unwrap_or_else(|| {
            Err(anyhow::anyhow!("the brokers did not answer within {} s", PATIENCE.as_secs()))
        })
    }
}

/// # Safety
/// The event is an answer to CreateAcls, and lives.
unsafe fn read_created(event: *mut rd::rd_kafka_event_t) -> anyhow::Result<()> {
    // SAFETY: as the caller says; the texts belong to the event.
    unsafe {
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
/// The event is an answer to DescribeAcls, and lives.
unsafe fn read_described(event: *mut rd::rd_kafka_event_t) -> HashSet<Acl> {
    // SAFETY: as the caller says; the bindings belong to the event.
    unsafe {
        let result = rd::rd_kafka_event_DescribeAcls_result(event);
        let mut count = 0;
        let bindings = rd::rd_kafka_DescribeAcls_result_acls(result, &raw mut count);
        (0..count).map(|index| Acl::of(*bindings.add(index))).collect()
    }
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

/// What tells an ACL from another.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Acl {
    kind: i32,
    name: String,
    pattern: i32,
    principal: String,
    host: String,
    operation: i32,
    permission: i32,
}

impl Acl {
    /// # Safety
    /// The binding lives.
    unsafe fn of(binding: *const rd::rd_kafka_AclBinding_t) -> Self {
        // SAFETY: as the caller says; the texts belong to the binding and are copied.
        unsafe {
            Self {
                kind: rd::rd_kafka_AclBinding_restype(binding) as i32,
                name: text(rd::rd_kafka_AclBinding_name(binding)),
                pattern: rd::rd_kafka_AclBinding_resource_pattern_type(binding) as i32,
                principal: text(rd::rd_kafka_AclBinding_principal(binding)),
                host: text(rd::rd_kafka_AclBinding_host(binding)),
                operation: rd::rd_kafka_AclBinding_operation(binding) as i32,
                permission: rd::rd_kafka_AclBinding_permission_type(binding) as i32,
            }
        }
    }
}

/// Which ACLs are asked for.
struct Filter(*mut rd::rd_kafka_AclBindingFilter_t);

impl Filter {
    fn every() -> anyhow::Result<Self> {
        let mut reason: [c_char; 256] = [0; 256];
        // SAFETY: no text is needed where anything matches, and the buffer is as long as is said.
        let filter = unsafe {
            rd::rd_kafka_AclBindingFilter_new(
                Kind::RD_KAFKA_RESOURCE_ANY,
                std::ptr::null(),
                Pattern::RD_KAFKA_RESOURCE_PATTERN_ANY,
                std::ptr::null(),
                std::ptr::null(),
                Operation::RD_KAFKA_ACL_OPERATION_ANY,
                Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ANY,
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        if filter.is_null() {
            // SAFETY: librdkafka ends what it writes with NUL.
            anyhow::bail!("{}", unsafe { text(reason.as_ptr()) });
        }
        Ok(Self(filter))
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: it was made by the library, and is freed here alone.
        unsafe { rd::rd_kafka_AclBinding_destroy(self.0) }
    }
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
                Permission::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
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
