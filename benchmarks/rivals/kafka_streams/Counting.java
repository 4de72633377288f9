import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.YearMonth;
import java.time.ZoneOffset;
import java.util.HexFormat;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Counts clicks exactly once: java Counting BROKER TOPIC APPLICATION FOLDER. One flattr per month, member and thing;
 * flattrs per creator and per member. A member's clicks share a partition, so nothing is sent anywhere to be counted;
 * a creator's count is the sum over partitions, as in Flattr. The counts stand in the stores' changelogs.
 */
public final class Counting implements Processor<byte[], byte[], Void, Void> {
    private static final JsonFactory JSON = new JsonFactory();
    private static final byte[] SEEN = {1};

    private KeyValueStore<Bytes, byte[]> seen;
    private KeyValueStore<String, Long> byCreator;
    private KeyValueStore<String, Long> byMember;
    private long monthBegins = 0;
    private long monthEnds = 0;
    private int month = 0;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        seen = context.getStateStore("seen");
        byCreator = context.getStateStore("by-creator");
        byMember = context.getStateStore("by-member");
    }

    @Override
    public void process(Record<byte[], byte[]> block) {
        // A parser reads one value after the other: the lines of a block need not be divided first.
        try (JsonParser parser = JSON.createParser(block.value())) {
            while (parser.nextToken() == JsonToken.START_OBJECT) {
                click(parser);
            }
        } catch (IOException error) {
            throw new IllegalStateException("not a click", error);
        }
    }

    private void click(JsonParser parser) throws IOException {
        String member = null;
        String creator = null;
        String thing = null;
        long clickedAt = 0;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String name = parser.currentName();
            parser.nextToken();
            switch (name) {
                case "member_id" -> member = parser.getText();
                case "creator_id" -> creator = parser.getText();
                case "thing_id" -> thing = parser.getText();
                case "clicked_at" -> clickedAt = parser.getLongValue();
                default -> { }
            }
        }
        byte[] who = member.getBytes(StandardCharsets.UTF_8);
        byte[] what = HexFormat.of().parseHex(thing);
        ByteBuffer key = ByteBuffer.allocate(4 + what.length + who.length);
        Bytes flattr = Bytes.wrap(key.putInt(monthOf(clickedAt)).put(what).put(who).array());
        if (seen.putIfAbsent(flattr, SEEN) == null) {
            increment(byCreator, creator);
            increment(byMember, member);
        }
    }

    private static void increment(KeyValueStore<String, Long> counts, String key) {
        Long count = counts.get(key);
        counts.put(key, count == null ? 1L : count + 1);
    }

    private int monthOf(long atMs) {
        if (atMs < monthBegins || atMs >= monthEnds) {
            YearMonth at = YearMonth.from(Instant.ofEpochMilli(atMs).atZone(ZoneOffset.UTC));
            monthBegins = at.atDay(1).atStartOfDay().toInstant(ZoneOffset.UTC).toEpochMilli();
            monthEnds = at.plusMonths(1).atDay(1).atStartOfDay().toInstant(ZoneOffset.UTC).toEpochMilli();
            month = at.getYear() * 100 + at.getMonthValue();
        }
        return month;
    }

    private static StoreBuilder<KeyValueStore<String, Long>> counts(String name) {
        // The cache writes a count once a commit to the changelog, however often it rose.
        return Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.String(), Serdes.Long())
            .withCachingEnabled();
    }

    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[3]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 512 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
        Topology topology = new Topology()
            .addSource("clicks", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), arguments[1])
            .addProcessor("count", Counting::new, "clicks")
            .addStateStore(Stores.keyValueStoreBuilder(
                Stores.inMemoryKeyValueStore("seen"), Serdes.Bytes(), Serdes.ByteArray()), "count")
            .addStateStore(counts("by-creator"), "count")
            .addStateStore(counts("by-member"), "count");
        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
    }
}
