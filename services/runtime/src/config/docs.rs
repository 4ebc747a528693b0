//! `docs/configuration.md`, made from the table of keys.

use std::fmt::Write;

use super::keys::{KEYS, RESERVED_PROPERTIES};

const HEAD: &str = "<!-- Made from services/runtime/src/config/keys.rs; UPDATE_DOCS=1 cargo test -p stocktide-runtime writes it anew. -->

# Configuration

What holds is settled in four layers, the later over the earlier:

1. the defaults below;
2. a TOML file: `--config FILE`, or the one that `STOCKTIDE_CONFIG` names, or `stocktide.toml` in the working directory if there is one;
3. the environment: `STOCKTIDE_` and the key in capitals, with underscores for dots; an empty variable counts as not set;
4. flags: `--database-url`, `--kafka-brokers`, `--admin-listen`, `--log`.

`stocktide config` prints each value and where it came from, secrets masked. A key or a variable that is not in this
table, and a value that its key does not take, ends the program with one line that names it and exit code 2.

```toml
[kafka]
brokers = \"kafka-1:9092,kafka-2:9092\"
security_protocol = \"sasl_ssl\"
ca_file = \"/etc/stocktide/kafka-ca.pem\"
sasl_mechanism = \"SCRAM-SHA-512\"
sasl_username = \"stocktide-processor\"
sasl_password_file = \"/run/secrets/kafka\"

[kafka.properties]
client.rack = \"eu-west-2a\"

[business]
timezone = \"Europe/London\"
```

| key | default | allowed | what it does |
|---|---|---|---|
";

/// The page.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    for key in KEYS {
        let default = key.default.map_or_else(|| "not set".to_owned(), |d| format!("`{d}`"));
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {default} | {} | {} |", key.name, key.kind.allowed(), key.doc);
    }
    let reserved: Vec<String> = RESERVED_PROPERTIES.iter().map(|p| format!("`{p}`")).collect();
    let _ = write!(
        page,
        "
## Kafka's own properties

`kafka.properties.NAME` hands a property of librdkafka (its CONFIGURATION.md lists them) to every Kafka client. In the environment
underscores stand for its dots: `STOCKTIDE_KAFKA_PROPERTIES_CLIENT_RACK`. Those that Stocktide's promises, or the verification of
certificates, hang on cannot be set: {}.

## TLS

To Kafka: `kafka.security_protocol` and what follows it above. Brokers' certificates are always verified, with their host names.

To PostgreSQL, in the URL, in libpq's words:

| `sslmode` | |
|---|---|
| not set, `disable` | in clear |
| `verify-full` | TLS; the server's certificate must be for its host, and signed by an authority of `sslrootcert` (a PEM file; `system` or not set: the system's file, which `SSL_CERT_FILE` may name). `sslcert` and `sslkey` name our own certificate, where the server asks for one |

The others (`allow`, `prefer`, `require`, `verify-ca`) are refused: they fall back to less, or take any certificate.

What does not let us in is said in one line before a command begins: a certificate that has expired, is for another host or signed
by nobody in the file, a name or password that are refused. A processor ends with it, rather than wait for what does not pass.

## Secrets

`database.url_file`, `kafka.sasl_password_file`, `narrative.key_file` and `api.token_file` name files that hold the secret alone; a newline
at the end does not belong to it. A password in `--database-url` is taken off the command line at the start, where other users of the
machine could read it. A secret and its file in the same layer are refused; otherwise the higher layer holds.

## Object stores

What a store wants to know of its visitors is not set here but in its own variables, those that its other tools read too.

- `s3://`: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` or `AWS_SECRET_ACCESS_KEY_FILE`, `AWS_SESSION_TOKEN`, `AWS_REGION`; for a server
  that is not Amazon's `AWS_ENDPOINT_URL`, and `AWS_ALLOW_HTTP=true` where it has no TLS.
- `gs://`: `GOOGLE_SERVICE_ACCOUNT` (the path of a service account's key file) or `GOOGLE_SERVICE_ACCOUNT_KEY` (its content);
  without them what the machine has been given.
",
        reserved.join(", ")
    );
    page
}
