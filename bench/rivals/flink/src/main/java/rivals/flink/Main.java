package rivals.flink;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.Statement;
import java.util.Comparator;
import java.util.Map;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.types.DataType;

/** Runs the statements of a file, as Flink's SQL client does, in a cluster inside this process. */
public final class Main {
    private static final Pattern SHARED_VIEW = Pattern.compile("/\\* shared \\*/ CREATE TEMPORARY VIEW (\\w+)");

    private Main() {}

    public static void main(String[] arguments) throws Exception {
        keepOpeningStock();
        Path checkpoints = Path.of(System.getenv("CHECKPOINTS"));
        Configuration settings = Configuration.fromMap(Map.of(
            // One for each core.
            "parallelism.default", "2",
            "pipeline.object-reuse", "true",
            // The state fits into memory, and is written to disk whole: not too often.
            "state.backend.type", "hashmap",
            "execution.checkpointing.interval", "3 s",
            "execution.checkpointing.dir", checkpoints.toUri().toString(),
            "execution.checkpointing.externalized-checkpoint-retention", "RETAIN_ON_CANCELLATION",
            // With mini-batches a deduplication may take rows back, says the planner, and running totals take no such input.
            "table.exec.mini-batch.enabled", "false"));
        lastCheckpoint(checkpoints)
            .ifPresent(last -> settings.setString("execution.state-recovery.path", last.toUri().toString()));
        StreamExecutionEnvironment cluster = StreamExecutionEnvironment.createLocalEnvironment(settings);
        StreamTableEnvironment tables = StreamTableEnvironment.create(cluster);
        String script = Files.readString(Path.of(arguments[0]));
        for (String name : new String[] {"KAFKA_BROKERS", "JDBC_URL", "JDBC_USER"}) {
            script = script.replace("${" + name + "}", System.getenv(name));
        }
        // The last statement is the job, which does not end.
        for (String statement : script.split(";;\n")) {
            tables.executeSql(statement.trim()).await();
            Matcher shared = SHARED_VIEW.matcher(statement);
            if (shared.find()) {
                share(tables, shared.group(1));
            }
        }
    }

    /**
     * Makes a view a stream. The planner puts the query of a view wherever the view is read, and finds out afterwards what is the
     * same; where a function of a table stands in it (decode_event, UNNEST) it does not, and would read, decode and find redeliveries
     * once for each sink.
     */
    private static void share(StreamTableEnvironment tables, String view) {
        Table table = tables.from(view);
        // In Flink's own representation of rows, so that nothing is converted.
        DataType rows = table.getResolvedSchema().toSourceRowDataType().bridgedTo(RowData.class);
        DataStream<RowData> stream = tables.toDataStream(table, rows);
        tables.dropTemporaryView(view);
        tables.createTemporaryView(view, stream);
    }

    /** The last one that was completed, of an earlier run. */
    private static Optional<Path> lastCheckpoint(Path checkpoints) throws IOException {
        if (!Files.exists(checkpoints)) {
            return Optional.empty();
        }
        try (Stream<Path> files = Files.walk(checkpoints)) {
            return files.filter(file -> file.endsWith("_metadata"))
                .max(Comparator.comparing(file -> file.toFile().lastModified()))
                .map(Path::getParent);
        }
    }

    /** The job overwrites inventory, and must know after a restart what it began with. */
    private static void keepOpeningStock() throws Exception {
        try (Connection database =
                DriverManager.getConnection(System.getenv("JDBC_URL"), System.getenv("JDBC_USER"), "");
            Statement statement = database.createStatement()) {
            statement.execute("CREATE TABLE IF NOT EXISTS opening_stock AS SELECT * FROM inventory");
        }
    }
}
