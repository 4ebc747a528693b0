package rivals.streams;

import com.fasterxml.jackson.core.JsonProcessingException;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import rivals.events.Catalogue;
import rivals.events.Event;

/** Takes an event in: checks it, lets it pass once, and tells what it changes. */
final class Intake implements Processor<byte[], byte[], Object, Object> {
    /** The ids of the events that were applied. Redeliveries have the key of the first one, so they come to the same task. */
    static final String SEEN = "seen";
    /** Online orders by order_id, for their cancellation. */
    static final String ORDERS = "orders";

    private static final byte[] PRESENT = {1};

    private final Catalogue catalogue;
    private ProcessorContext<Object, Object> context;
    private KeyValueStore<byte[], byte[]> seen;
    private KeyValueStore<String, byte[]> orders;

    /** What a cancellation must know of its order. */
    record Order(String location, String user, List<Event.Line> lines) {}

    record OrderRow(UUID event_id, int line_no, String order_id, String kind, String product_id, String location_id,
            String user_id, long quantity, BigDecimal unit_price, String ordered_at) {}

    record LogRow(UUID event_id, String topic, int partition, long offset, String raw_event) {}

    Intake(Catalogue catalogue) {
        this.catalogue = catalogue;
    }

    @Override
    public void init(ProcessorContext<Object, Object> context) {
        this.context = context;
        seen = context.getStateStore(SEEN);
        orders = context.getStateStore(ORDERS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        RecordMetadata from = context.recordMetadata().orElseThrow();
        try {
            Event event = Event.decode(from.topic(), record.value(), catalogue);
            byte[] id = bytes(event.id());
            if (seen.get(id) != null) {
                return;
            }
            apply(event, from, record);
            seen.put(id, PRESENT);
        } catch (Event.Rejected rejected) {
            Headers headers = new RecordHeaders(record.headers());
            headers.add("reason", rejected.getMessage().getBytes(StandardCharsets.UTF_8));
            context.forward(new Record<>(record.key(), record.value(), record.timestamp(), headers), "dlq");
        }
    }

    private void apply(Event event, RecordMetadata from, Record<byte[], byte[]> record) throws Event.Rejected {
        switch (event.kind()) {
            case SALE -> {
                if (from.topic().equals("online_orders")) {
                    orders.put(event.businessId(), json(new Order(event.location(), event.user(), event.lines())));
                }
                emit(event, "sale", -1, event.location(), event.user(), event.lines(), from, record);
            }
            case RETURN -> emit(event, "return", 1, event.location(), event.user(), event.lines(), from, record);
            case RESTOCK -> emit(event, null, 1, event.location(), null, event.lines(), from, record);
            case CANCELLATION -> {
                // Gone with its first cancellation, so that a second one is refused.
                byte[] known = orders.delete(event.businessId());
                if (known == null) {
                    throw new Event.Rejected("unknown_order");
                }
                Order order = parse(known);
                emit(event, "cancellation", 1, order.location(), order.user(), order.lines(), from, record);
            }
            case PROGRESS -> { }
        }
        String raw = new String(record.value(), StandardCharsets.UTF_8);
        send("events_log", record.key(), record,
            new LogRow(event.id(), from.topic(), from.partition(), from.offset(), raw));
    }

    /** Lines of orders (where they have a kind), and one change per stock row; {@code sign}: of the stock. */
    private void emit(Event event, String kind, int sign, String location, String user, List<Event.Line> lines,
            RecordMetadata from, Record<byte[], byte[]> record) {
        int number = 0;
        Map<String, Long> deltas = new LinkedHashMap<>();
        for (Event.Line line : lines) {
            deltas.merge(line.product(), sign * line.quantity(), Long::sum);
            number++;
            if (kind != null) {
                send("orders", record.key(), record, new OrderRow(event.id(), number, event.businessId(), kind,
                    line.product(), location, user, -sign * line.quantity(), line.price(), event.time()));
            }
        }
        deltas.forEach((product, delta) -> {
            if (delta != 0) {
                send("changes", product, record, new Stock.Change(event.id(), location, delta, from.topic()));
            }
        });
    }

    private void send(String sink, Object key, Record<byte[], byte[]> cause, Object row) {
        context.forward(new Record<>(key, json(row), cause.timestamp()), sink);
    }

    private static byte[] bytes(UUID id) {
        return ByteBuffer.allocate(16)
            .putLong(id.getMostSignificantBits())
            .putLong(id.getLeastSignificantBits())
            .array();
    }

    static byte[] json(Object value) {
        try {
            return Event.JSON.writeValueAsBytes(value);
        } catch (JsonProcessingException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static Order parse(byte[] json) {
        try {
            return Event.JSON.readValue(json, Order.class);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
