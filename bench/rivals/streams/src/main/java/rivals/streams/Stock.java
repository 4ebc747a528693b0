package rivals.streams;

import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.UUID;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import rivals.events.Catalogue;
import rivals.events.Event;

/** Keeps the stock of each product at each location, and tells every change of it. */
final class Stock implements Processor<String, byte[], String, byte[]> {
    /** Stock row → units on hand and the number of changes so far. */
    static final String STOCK = "stock";

    private static final ObjectReader CHANGE = Event.JSON.readerFor(Change.class);

    private final Catalogue catalogue;
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> stock;

    /** By how much an event changes a stock row of the product in the key. */
    record Change(UUID event_id, String location_id, long delta, String source) {}

    /** The record of inventory_updates, which the sink of the table inventory reads, too. */
    record Update(UUID event_id, String product_id, String location_id, long delta, long quantity_on_hand, long version,
            String source) {}

    Stock(Catalogue catalogue) {
        this.catalogue = catalogue;
    }

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
        this.context = context;
        stock = context.getStateStore(STOCK);
    }

    @Override
    public void process(Record<String, byte[]> record) {
        String product = record.key();
        Change change;
        try {
            change = CHANGE.readValue(record.value());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        String row = Catalogue.row(product, change.location_id());
        byte[] known = stock.get(row);
        // The stock in the database is that of the start until the first change of a row is committed; then the store has it.
        long units = known == null ? catalogue.stock().getOrDefault(row, 0L) : ByteBuffer.wrap(known).getLong(0);
        long version = known == null ? 0 : ByteBuffer.wrap(known).getLong(8);
        units += change.delta();
        version++;
        stock.put(row, ByteBuffer.allocate(16).putLong(units).putLong(version).array());
        Update update = new Update(change.event_id(), product, change.location_id(), change.delta(), units, version,
            change.source());
        context.forward(record.withValue(Intake.json(update)), "updates");
    }
}
