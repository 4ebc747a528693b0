//! Kafka to PostgreSQL to Kafka, exactly once.
