package rivals.streams;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KafkaStreams.State;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.Stores;
import rivals.events.Catalogue;

/** The application: `Main topics` makes the topics that it writes, `Main DIR` runs it with its state in DIR. */
public final class Main {
    static final List<String> SOURCES = List.of("online_orders", "store_sales", "supplier_restocks");
    /** What the sinks read, besides inventory_updates. */
    static final String ORDERS = "rival-orders";
    static final String EVENTS_LOG = "rival-events_log";
    /** Changes of stock on their way from the partition of their event to the partition of their product. */
    private static final String CHANGES = "rival-changes";

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        String brokers = System.getenv("KAFKA_BROKERS");
        if (arguments[0].equals("topics")) {
            makeTopics(brokers);
            return;
        }
        Catalogue catalogue = Catalogue.load("inventory");
        KafkaStreams streams = new KafkaStreams(topology(catalogue), settings(brokers, arguments[0]));
        CountDownLatch ended = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == State.ERROR || now == State.NOT_RUNNING) {
                ended.countDown();
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        awaitSinks(brokers);
        streams.start();
        ended.await();
        if (streams.state() == State.ERROR) {
            Runtime.getRuntime().halt(1);
        }
    }

    static Topology topology(Catalogue catalogue) {
        var bytes = Serdes.ByteArray();
        var text = Serdes.String();
        Topology topology = new Topology();
        // One source of three topics: their partitions of one number go to one task, which has one store of event ids.
        topology.addSource("events", bytes.deserializer(), bytes.deserializer(), SOURCES.toArray(String[]::new))
            .addProcessor("intake", () -> new Intake(catalogue), "events")
            // Both grow with the number of events, so they are on disk; nothing is written twice, so they have no cache.
            .addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(Intake.SEEN), bytes, bytes)
                .withCachingDisabled(), "intake")
            .addStateStore(Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(Intake.ORDERS), text, bytes)
                .withCachingDisabled(), "intake")
            .addSink("dlq", "dlq", bytes.serializer(), bytes.serializer(), "intake")
            .addSink("orders", ORDERS, bytes.serializer(), bytes.serializer(), "intake")
            .addSink("events_log", EVENTS_LOG, bytes.serializer(), bytes.serializer(), "intake")
            .addSink("changes", CHANGES, text.serializer(), bytes.serializer(), "intake")
            .addSource("changes-of-products", text.deserializer(), bytes.deserializer(), CHANGES)
            .addProcessor("stock", () -> new Stock(catalogue), "changes-of-products")
            // As large as the catalogue, so it is in memory; the cache spares changelog records of the same row.
            .addStateStore(Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(Stock.STOCK), text, bytes)
                .withCachingEnabled(), "stock")
            .addSink("updates", "inventory_updates", text.serializer(), bytes.serializer(), "stock");
        return topology;
    }

    private static Properties settings(String brokers, String state) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "rival-streams");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 128 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        // Ten transactions a second follow each other closely: until the broker has ended one, it turns the first records of the next
        // away, and with the default of 100 ms each such turn would cost a commit interval.
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.RETRY_BACKOFF_MS_CONFIG), 2);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.RETRY_BACKOFF_MAX_MS_CONFIG), 20);
        // A commit flushes what lingers, and there are ten a second.
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
        return settings;
    }

    /** Waits (a minute at most) until Kafka Connect listens: it takes longer to start than this program. */
    private static void awaitSinks(String brokers) throws Exception {
        List<String> groups = List.of("connect-rival-inventory", "connect-rival-orders", "connect-rival-events_log");
        long deadline = System.nanoTime() + Duration.ofMinutes(1).toNanos();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            boolean ready = false;
            while (!ready && System.nanoTime() < deadline) {
                Thread.sleep(100);
                try {
                    ready = admin.describeConsumerGroups(groups).all().get().values().stream()
                        .allMatch(group -> group.groupState() == GroupState.STABLE);
                } catch (ExecutionException error) {
                    // A group that nobody has joined yet.
                    ready = false;
                }
            }
        }
    }

    /** As many partitions as the inputs have; several instances may make them at once. */
    private static void makeTopics(String brokers) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            String first = SOURCES.get(0);
            int partitions = admin.describeTopics(SOURCES).allTopicNames().get().get(first).partitions().size();
            for (String name : List.of(ORDERS, EVENTS_LOG, CHANGES)) {
                try {
                    admin.createTopics(List.of(new NewTopic(name, partitions, (short) -1))).all().get();
                } catch (ExecutionException error) {
                    if (!(error.getCause() instanceof TopicExistsException)) {
                        throw error;
                    }
                }
            }
        }
    }
}
