package rivals.events;

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** What is sold, where, by whom it is delivered, and the stock of each row when the program starts. */
public record Catalogue(Set<String> products, Set<String> locations, Set<String> suppliers, Map<String, Long> stock) {

    public static Catalogue load(String stockTable) throws SQLException {
        try (Connection database =
                DriverManager.getConnection(System.getenv("JDBC_URL"), System.getenv("JDBC_USER"), "")) {
            Map<String, Long> stock = new HashMap<>();
            String inventory = "SELECT product_id, location_id, quantity_on_hand FROM " + stockTable;
            try (Statement statement = database.createStatement(); ResultSet rows = statement.executeQuery(inventory)) {
                while (rows.next()) {
                    stock.put(row(rows.getString(1), rows.getString(2)), rows.getLong(3));
                }
            }
            return new Catalogue(
                names(database, "SELECT product_id FROM products"),
                names(database, "SELECT location_id FROM locations"),
                names(database, "SELECT supplier_id FROM suppliers"),
                stock);
        }
    }

    /** The key of a stock row. */
    public static String row(String product, String location) {
        return product + '\0' + location;
    }

    private static Set<String> names(Connection database, String query) throws SQLException {
        Set<String> names = new HashSet<>();
        try (Statement statement = database.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            while (rows.next()) {
                names.add(rows.getString(1));
            }
        }
        return names;
    }
}
