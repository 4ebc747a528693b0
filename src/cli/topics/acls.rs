//! `stocktide topics acls`: what each service has to be allowed by the brokers.

use stocktide_runtime::Config;
use stocktide_runtime::kafka::acls::give;
use stocktide_runtime::kafka::rights::{Rights, Service, rights};

use crate::cli::{Usage, say};

/// What to print.
#[derive(Debug, clap::Args)]
pub struct AclsArgs {
    /// Whom a service logs in as, such as processor=User:CN=stock; by default it is User:stocktide-SERVICE.
    #[arg(long, value_name = "SERVICE=PRINCIPAL")]
    principal: Vec<String>,
    /// Only what this service needs.
    #[arg(long, value_name = "SERVICE", value_parser = ["processor", "jobs", "api", "producer", "owner"])]
    service: Option<String>,
    /// Give the rights, instead of printing them, as the user of the configuration, who must be allowed to (Alter on the cluster).
    /// What is given already stays.
    #[arg(long)]
    apply: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl AclsArgs {
    /// Whether Kafka is needed.
    pub fn applies(&self) -> bool {
        self.apply
    }
}

/// Prints it, or gives it; it blocks.
///
/// # Errors
/// When a principal is for no service, or the brokers do not give it.
pub fn acls(args: &AclsArgs, config: &Config) -> anyhow::Result<()> {
    let named: Vec<(&str, &str)> =
        args.principal.iter().map(|given| parse(given)).collect::<Result<_, Usage>>()?;
    let wanted = |service: &Service| args.service.as_deref().is_none_or(|name| name == service.name());
    let mut wanted_rights = Vec::new();
    for service in Service::ALL.into_iter().filter(wanted) {
        let given = named.iter().rev().find(|(name, _)| *name == service.name());
        let principal = given.map_or_else(
            || format!("User:stocktide-{}", service.name()),
            |(_, principal)| (*principal).to_owned(),
        );
        for rights in rights(service, config) {
            if args.apply {
                wanted_rights.push((principal.clone(), rights));
            } else if args.json {
                let mut line = serde_json::to_value(&rights)?;
                line["principal"] = principal.clone().into();
                say(line)?;
            } else {
                say(command(&rights, &principal))?;
            }
        }
    }
    if args.apply {
        let count = give(config, &wanted_rights)?;
        say(if args.json {
            serde_json::json!({ "acls": count }).to_string()
        } else {
            format!("{count} ACLs are given")
        })?;
    }
    Ok(())
}

fn parse(given: &str) -> Result<(&str, &str), Usage> {
    let known = |name: &str| Service::ALL.iter().any(|service| service.name() == name);
    given.split_once('=').filter(|(name, principal)| known(name) && principal.contains(':')).ok_or_else(|| {
        Usage(format!("--principal {given}: allowed: processor, jobs, api, producer or owner, =, and a principal like User:name"))
    })
}

/// The command of Kafka's own tool.
fn command(rights: &Rights, principal: &str) -> String {
    let mut words = vec![
        "kafka-acls.sh --bootstrap-server \"$BROKERS\" --add".to_owned(),
        format!("--allow-principal {}", quoted(principal)),
    ];
    words.extend(rights.operations.iter().map(|operation| format!("--operation {operation}")));
    words.extend(rights.names.iter().map(|name| format!("--{} {}", rights.kind, quoted(name))));
    if rights.prefixed {
        words.push("--resource-pattern-type prefixed".to_owned());
    }
    words.join(" ")
}

/// For a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell_where_they_have_to_be() {
        assert_eq!(quoted("User:stocktide-api"), "User:stocktide-api");
        assert_eq!(quoted("User:CN=it's, O=x"), r"'User:CN=it'\''s, O=x'");
    }
}
