//! What is asked for.

/// A read endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// As it is shown.
    pub name: &'static str,
    /// With {user}, {order}, {product} in it, each time another one.
    path: &'static str,
}

const fn of(name: &'static str, path: &'static str) -> Endpoint {
    Endpoint { name, path }
}

/// Every endpoint that reads, but for the stream.
pub const ENDPOINTS: &[Endpoint] = &[
    of("/health", "/health"),
    of("/status", "/status"),
    of("/metrics (text)", "/metrics"),
    of("/users/{id}/stats", "/users/u{user}/stats"),
    of("/stats/global", "/stats/global"),
    of("/stats/top/10", "/stats/top/10"),
    of("/stats/top/10?by=orders", "/stats/top/10?by=orders"),
    of("/stats/top/1000", "/stats/top/1000"),
    of("/stats/monthly, 12 months", "/stats/monthly?start=2024-06&end=2025-05"),
    of("/products", "/products?limit=100"),
    of("/products/{id}/stock", "/products/P{product}/stock?limit=20"),
    of("/stock", "/stock?limit=100"),
    of("/stock?status=low&location=online", "/stock?status=low&location=online&limit=100"),
    of("/orders/{id}", "/orders/L{order}"),
    of("/reports", "/reports"),
    of("/dlq", "/dlq?limit=20"),
    of("/dlq/reasons", "/dlq/reasons"),
    of("/jobs/runs", "/jobs/runs"),
];

/// So many of each.
const PATHS: u64 = 2_000;

impl Endpoint {
    /// Paths for these many orders and users; the same each time.
    pub fn paths(&self, orders: u64, users: u64) -> Vec<String> {
        // Far apart, so that none is there because its neighbour was asked for.
        let nth = |n: u64, of: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % of.max(1) + 1;
        let path = |n| {
            let product = format!("{:05}", nth(n, 2_000));
            let path = self.path.replace("{user}", &nth(n, users).to_string());
            path.replace("{order}", &nth(n, orders).to_string()).replace("{product}", &product)
        };
        (0..if self.path.contains('{') { PATHS } else { 1 }).map(path).collect()
    }
}
