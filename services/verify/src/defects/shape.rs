//! Which fields the topics' objects have, as docs/events lists them.

/// How an object of a topic is laid out.
pub struct Shape {
    /// The fields that mean something.
    pub known: &'static [&'static str],
    /// Allowed in `type`; the first one is meant where it is absent.
    pub types: &'static [&'static str],
    /// The field with the event's own id.
    pub business_id: &'static str,
    /// The field with its time.
    pub time: &'static str,
    /// The fields of a line: product, quantity, price.
    pub line: [&'static str; 3],
}

/// Of a topic.
pub fn of(topic: &str) -> &'static Shape {
    match topic {
        "online_orders" => &ONLINE_ORDERS,
        "store_sales" => &STORE_SALES,
        "supplier_restocks" => &SUPPLIER_RESTOCKS,
        _ => &PAYMENTS,
    }
}

const ONLINE_ORDERS: Shape = Shape {
    known: &[
        "event_id",
        "type",
        "order_id",
        "user_id",
        "order_timestamp",
        "items",
        "order_value",
        "currency",
        "payment_method",
        "shipping_address",
        "location_id",
        "original_id",
    ],
    types: &["placed", "shipped", "delivered", "cancelled", "returned"],
    business_id: "order_id",
    time: "order_timestamp",
    line: ["product_id", "quantity", "price_per_unit"],
};

const STORE_SALES: Shape = Shape {
    known: &[
        "event_id",
        "type",
        "sale_id",
        "store_id",
        "sold_at",
        "items",
        "total",
        "currency",
        "payment_method",
        "original_id",
    ],
    types: &["sold", "returned"],
    business_id: "sale_id",
    time: "sold_at",
    line: ["product_id", "quantity", "price_per_unit"],
};

const SUPPLIER_RESTOCKS: Shape = Shape {
    known: &[
        "event_id",
        "type",
        "restock_id",
        "supplier_id",
        "location_id",
        "received_at",
        "items",
        "currency",
        "note",
    ],
    types: &["received", "adjustment"],
    business_id: "restock_id",
    time: "received_at",
    line: ["product_id", "quantity", "unit_cost"],
};

const PAYMENTS: Shape = Shape {
    known: &[
        "event_id",
        "payment_id",
        "order_id",
        "payment_method",
        "card_last_four",
        "payment_status",
        "payment_datetime",
        "amount",
        "currency",
    ],
    types: &[],
    business_id: "payment_id",
    time: "payment_datetime",
    line: [""; 3],
};
