//! A stack that asks who is there, the users that it knows, and the program run as one of them.

use std::path::PathBuf;
use std::process::Command;

use sqlx::{AssertSqlSafe, PgPool};
use stocktide_devstack::{Security, Stack, StackOptions};
use stocktide_runtime::config::{Config, Sources};
use stocktide_runtime::kafka::ensure_topics;
use stocktide_store::{migrate, roles};
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::command::{run, stocktide};

/// Marks every secret of the tests, so that it can be looked for.
pub const MARK: &str = "hush7391";
/// Whom the servers know; each has one password for both.
pub const USERS: [&str; 6] = ["owner", "processor", "jobs", "api", "producer", "stranger"];

pub struct World {
    pub stack: Stack,
    /// As the superuser, who needs no password.
    pub database: PgPool,
    pub directory: TempDir,
}

/// What a user's password is.
pub fn password(user: &str) -> String {
    format!("{MARK}-{user}")
}

/// The principal of a service.
fn name(user: &str) -> String {
    format!("stocktide-{user}")
}

impl World {
    /// Servers with a certificate for `localhost` that expires at the beginning of that year. There is a user per service, each in
    /// its role; there are no ACLs and no schema.
    pub async fn start(until: i32) -> World {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new("the authority of the tests");
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        std::fs::write(directory.path().join("other-ca.pem"), Authority::new("another").pem()).unwrap();
        let identity = authority.sign("localhost", until);
        let users = USERS.iter().map(|user| (name(user), password(user))).collect();
        let security = Security { certificate: identity.certificate, key: identity.key, users };
        let options = StackOptions { security: Some(security), ..StackOptions::default() };
        let stack = Stack::start(options).await.unwrap();
        let database = PgPool::connect(&stack.database_url()).await.unwrap();
        let world = World { stack, database, directory };
        for user in USERS {
            std::fs::write(world.file(&format!("{user}.password")), password(user) + "\n").unwrap();
            world.sql(&format!("CREATE ROLE \"{}\" LOGIN PASSWORD '{}'", name(user), password(user))).await;
        }
        world.sql(&format!("ALTER DATABASE stocktide OWNER TO \"{}\"", name("owner"))).await;
        world.sql("REVOKE CONNECT ON DATABASE stocktide FROM PUBLIC").await;
        world.sql("ALTER SCHEMA public OWNER TO \"stocktide-owner\"").await;
        // As an administrator would.
        let printed = run(&mut stocktide(&["roles"])).done();
        world.sql(&printed.stdout).await;
        for user in ["processor", "jobs", "api"] {
            world.sql(&format!("GRANT stocktide_{user} TO \"{}\"", name(user))).await;
        }
        world
    }

    pub async fn sql(&self, sql: &str) {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.database).await.unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The URL of a user, with TLS and that file of authorities.
    pub fn url(&self, user: &str, ca: &str) -> String {
        let url = self.stack.secure_database_url(&format!("{}:{}", name(user), password(user)));
        format!("{url}?sslmode=verify-full&sslrootcert={}", self.file(ca).display())
    }

    /// The program as a user: secrets in files, as they should be.
    pub fn command(&self, user: &str, args: &[&str]) -> Command {
        let url = self.file(&format!("{user}.url"));
        std::fs::write(&url, self.url(user, "ca.pem")).unwrap();
        let mut command = stocktide(args);
        command
            .env("STOCKTIDE_DATABASE_URL_FILE", url)
            .env("STOCKTIDE_KAFKA_BROKERS", self.stack.secure_brokers())
            .env("STOCKTIDE_KAFKA_SECURITY_PROTOCOL", "sasl_ssl")
            .env("STOCKTIDE_KAFKA_CA_FILE", self.file("ca.pem"))
            .env("STOCKTIDE_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
            .env("STOCKTIDE_KAFKA_SASL_USERNAME", name(user))
            .env("STOCKTIDE_KAFKA_SASL_PASSWORD_FILE", self.file(&format!("{user}.password")));
        command
    }

    /// Gives the services the ACLs that they need, as the stack itself.
    pub fn give_acls(&self) {
        let mut command = stocktide(&["topics", "acls", "--apply"]);
        run(command.env("STOCKTIDE_KAFKA_BROKERS", self.stack.kafka_brokers())).done();
    }

    /// The topics, made by the stack itself.
    pub async fn make_topics(&self) {
        let environment = vec![("STOCKTIDE_KAFKA_BROKERS".to_owned(), self.stack.kafka_brokers().into())];
        let config = Config::load(&Sources { file: None, environment, flags: Vec::new() }).unwrap();
        ensure_topics(&config).await.unwrap();
    }

    /// The schema alone, made by the owner.
    pub async fn migrate_database(&self) {
        migrate::run(&self.url("owner", "ca.pem"), "GBP", "UTC").await.unwrap();
        roles::grant(&self.url("owner", "ca.pem"), "stocktide").await.unwrap();
    }
}
