package rivals.events;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.math.BigDecimal;
import java.time.DateTimeException;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;

/** A valid event. {@code lines} have the quantities as they were sent. */
public record Event(UUID id, Kind kind, String businessId, String location, String user, String time, List<Line> lines) {

    public enum Kind { SALE, RETURN, RESTOCK, CANCELLATION, PROGRESS }

    public record Line(String product, long quantity, BigDecimal price) {}

    /** Why a record is not an event. */
    public static final class Rejected extends Exception {
        public Rejected(String reason) {
            // Without a stack trace, which costs more than the whole decoding.
            super(reason, null, false, false);
        }
    }

    public static final ObjectMapper JSON = new ObjectMapper(JsonFactory.builder()
            .streamReadConstraints(StreamReadConstraints.builder().maxNestingDepth(32).build())
            .build())
        .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
        .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS);

    private static final long QUANTITY_LIMIT = 10_000_000;
    private static final Instant EARLIEST = Instant.parse("2000-01-01T00:00:00Z");

    public static Event decode(String topic, byte[] value, Catalogue catalogue) throws Rejected {
        JsonNode json = parse(value);
        if (holdsCardNumber(value)) {
            throw new Rejected("card_number");
        }
        return switch (topic) {
            case "online_orders" -> order(json, catalogue);
            case "store_sales" -> sale(json, catalogue);
            default -> restock(json, catalogue);
        };
    }

    private static Event order(JsonNode json, Catalogue catalogue) throws Rejected {
        Kind kind = switch (word(json, "placed")) {
            case "placed" -> Kind.SALE;
            case "returned" -> Kind.RETURN;
            case "cancelled" -> Kind.CANCELLATION;
            case "shipped", "delivered" -> Kind.PROGRESS;
            default -> throw new Rejected("schema_violation");
        };
        boolean hasLines = kind == Kind.SALE || kind == Kind.RETURN;
        String location = json.hasNonNull("location_id") ? text(json, "location_id") : "online";
        String user = json.hasNonNull("user_id") ? text(json, "user_id") : null;
        List<Line> lines = hasLines ? lines(json, "price_per_unit", false, catalogue) : List.of();
        return event(json, kind, "order_id", location, user, "order_timestamp", lines, catalogue);
    }

    private static Event sale(JsonNode json, Catalogue catalogue) throws Rejected {
        Kind kind = switch (word(json, "sold")) {
            case "sold" -> Kind.SALE;
            case "returned" -> Kind.RETURN;
            default -> throw new Rejected("schema_violation");
        };
        List<Line> lines = lines(json, "price_per_unit", false, catalogue);
        return event(json, kind, "sale_id", text(json, "store_id"), null, "sold_at", lines, catalogue);
    }

    private static Event restock(JsonNode json, Catalogue catalogue) throws Rejected {
        boolean signed = switch (word(json, "received")) {
            case "received" -> false;
            case "adjustment" -> true;
            default -> throw new Rejected("schema_violation");
        };
        if (json.hasNonNull("supplier_id") && !catalogue.suppliers().contains(text(json, "supplier_id"))) {
            throw new Rejected("unknown_supplier");
        }
        List<Line> lines = lines(json, "unit_cost", signed, catalogue);
        return event(json, Kind.RESTOCK, "restock_id", text(json, "location_id"), null, "received_at", lines, catalogue);
    }

    private static Event event(JsonNode json, Kind kind, String businessId, String location, String user, String time,
            List<Line> lines, Catalogue catalogue) throws Rejected {
        if (!catalogue.locations().contains(location)) {
            throw new Rejected("unknown_location");
        }
        JsonNode currency = json.get("currency");
        if (currency != null && !currency.isNull() && !currency.asText().equalsIgnoreCase("GBP")) {
            throw new Rejected("currency_mismatch");
        }
        return new Event(id(json), kind, text(json, businessId), location, user, time(json, time), lines);
    }

    private static List<Line> lines(JsonNode json, String price, boolean signed, Catalogue catalogue) throws Rejected {
        JsonNode items = json.get("items");
        if (items == null || !items.isArray() || items.isEmpty()) {
            throw new Rejected("schema_violation");
        }
        List<Line> lines = new ArrayList<>(items.size());
        for (JsonNode item : items) {
            String product = text(item, "product_id");
            if (!catalogue.products().contains(product)) {
                throw new Rejected("unknown_product");
            }
            lines.add(new Line(product, quantity(item.get("quantity"), signed), amount(item.get(price))));
        }
        return lines;
    }

    private static JsonNode parse(byte[] value) throws Rejected {
        if (value == null || value.length == 0) {
            throw new Rejected("malformed_json");
        }
        try {
            JsonNode json = JSON.readTree(value);
            if (!json.isObject()) {
                throw new Rejected("schema_violation");
            }
            return json;
        } catch (StreamConstraintsException error) {
            throw new Rejected("too_large");
        } catch (IOException error) {
            throw new Rejected("malformed_json");
        }
    }

    private static UUID id(JsonNode json) throws Rejected {
        String text = text(json, "event_id");
        try {
            if (text.length() == 36) {
                return UUID.fromString(text);
            }
        } catch (IllegalArgumentException error) {
            // Told below.
        }
        throw new Rejected("schema_violation");
    }

    private static String word(JsonNode json, String otherwise) throws Rejected {
        return json.hasNonNull("type") ? text(json, "type") : otherwise;
    }

    /** A text that is not empty, or an integer. */
    private static String text(JsonNode json, String field) throws Rejected {
        JsonNode value = json.get(field);
        if (value == null || !(value.isTextual() || value.isIntegralNumber()) || value.asText().isEmpty()) {
            throw new Rejected("schema_violation");
        }
        return value.asText();
    }

    private static String time(JsonNode json, String field) throws Rejected {
        String text = text(json, field);
        Instant moment;
        try {
            moment = OffsetDateTime.parse(text).toInstant();
        } catch (DateTimeException error) {
            throw new Rejected("schema_violation");
        }
        if (moment.isBefore(EARLIEST) || moment.isAfter(Instant.now().plus(Duration.ofDays(1)))) {
            throw new Rejected("timestamp_out_of_range");
        }
        return text;
    }

    private static long quantity(JsonNode value, boolean signed) throws Rejected {
        if (value == null || !value.isNumber()) {
            throw new Rejected("schema_violation");
        }
        long units = value.isIntegralNumber() && value.canConvertToLong() ? value.asLong() : 0;
        if (units == 0 || units > QUANTITY_LIMIT || units < (signed ? -QUANTITY_LIMIT : 1)) {
            throw new Rejected("invalid_quantity");
        }
        return units;
    }

    private static BigDecimal amount(JsonNode value) throws Rejected {
        if (value == null || value.isNull()) {
            return null;
        }
        try {
            BigDecimal amount = value.isNumber() ? value.decimalValue() : new BigDecimal(value.asText());
            if (amount.signum() >= 0) {
                return amount.setScale(4);
            }
        } catch (ArithmeticException | NumberFormatException error) {
            // Told below.
        }
        throw new Rejected("invalid_price");
    }

    /** Looks for runs of 13 to 19 digits with single spaces or hyphens between them, which nothing else touches. */
    private static boolean holdsCardNumber(byte[] value) {
        StringBuilder digits = new StringBuilder();
        for (int at = 0; at < value.length; at++) {
            int start = at;
            digits.setLength(0);
            while (at < value.length && (isDigit(value[at]) || isGap(value, at, start))) {
                if (isDigit(value[at])) {
                    digits.append((char) value[at]);
                }
                at++;
            }
            if (digits.length() >= 13 && digits.length() <= 19
                && !(start > 0 && goesOn(value[start - 1])) && !(at < value.length && goesOn(value[at]))
                && checkDigitIsRight(digits)) {
                return true;
            }
        }
        return false;
    }

    /** What makes a run a part of something else, such as a UUID. */
    private static boolean goesOn(byte character) {
        return character == '-' || Character.isLetter(character);
    }

    private static boolean isGap(byte[] value, int at, int start) {
        return (value[at] == ' ' || value[at] == '-')
            && at > start && isDigit(value[at - 1]) && at + 1 < value.length && isDigit(value[at + 1]);
    }

    private static boolean isDigit(byte character) {
        return character >= '0' && character <= '9';
    }

    /** Luhn's. */
    private static boolean checkDigitIsRight(CharSequence digits) {
        int sum = 0;
        for (int i = 0; i < digits.length(); i++) {
            int digit = digits.charAt(digits.length() - 1 - i) - '0';
            sum += i % 2 == 0 ? digit : digit > 4 ? 2 * digit - 9 : 2 * digit;
        }
        return sum % 10 == 0;
    }
}
