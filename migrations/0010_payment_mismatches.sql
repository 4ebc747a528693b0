-- Payments of another amount than their order's value are few, and are to be counted without looking at the others. Neither
-- column changes with a payment's state, so that its updates stay within the page.
CREATE INDEX payments_amount_mismatch ON payments (payment_id) WHERE amount_mismatch;
