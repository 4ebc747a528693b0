//! Configuration, telemetry, shutdown and the admin endpoint.
