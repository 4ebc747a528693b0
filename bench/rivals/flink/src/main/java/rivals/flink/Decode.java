package rivals.flink;

import java.util.HashMap;
import java.util.Map;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.FunctionContext;
import org.apache.flink.table.functions.TableFunction;
import org.apache.flink.types.Row;
import rivals.events.Catalogue;
import rivals.events.Event;

/**
 * decode_event(topic, value): one row for each record, with the event or with the reason why it is none.
 *
 * <p>Flink's JSON format drops what it cannot read, knows no catalogue and keeps no original; so this is a function, as
 * Flink's documentation advises. The first line of a product in an event has the event's whole change of it as `change`, the
 * others have null.
 */
@FunctionHint(output = @DataTypeHint("ROW<event_id STRING, kind STRING, order_id STRING, location_id STRING, user_id STRING, "
    + "happened_at STRING, lines ARRAY<ROW<line_no INT, product_id STRING, quantity BIGINT, unit_price DECIMAL(18, 4), "
    + "change BIGINT, opening BIGINT>>, reason STRING>"))
public final class Decode extends TableFunction<Row> {
    private transient Catalogue catalogue;

    @Override
    public void open(FunctionContext context) throws Exception {
        catalogue = Catalogue.load("opening_stock");
    }

    public void eval(String topic, byte[] value) {
        try {
            Event event = Event.decode(topic, value, catalogue);
            collect(Row.of(event.id().toString(), event.kind().name(), event.businessId(), event.location(), event.user(),
                event.time(), lines(event), null));
        } catch (Event.Rejected rejected) {
            collect(Row.of(null, null, null, null, null, null, null, rejected.getMessage()));
        }
    }

    private Row[] lines(Event event) {
        int sign = event.kind() == Event.Kind.SALE ? -1 : 1;
        Map<String, Long> changes = new HashMap<>();
        event.lines().forEach(line -> changes.merge(line.product(), sign * line.quantity(), Long::sum));
        Row[] lines = new Row[event.lines().size()];
        for (int at = 0; at < lines.length; at++) {
            Event.Line line = event.lines().get(at);
            Long opening = catalogue.stock().getOrDefault(Catalogue.row(line.product(), event.location()), 0L);
            lines[at] = Row.of(at + 1, line.product(), -sign * line.quantity(), line.price(),
                changes.remove(line.product()), opening);
        }
        return lines;
    }
}
