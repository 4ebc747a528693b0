//! What the simulator sells, where, and what is on the shelves when it begins.

use std::fmt;

use anyhow::bail;
use rustc_hash::FxHashMap;
use stocktide_domain::{Money, ProductKind};
use stocktide_store::catalogue::{CatalogueFiles, LocationRow, ProductRow, StockRow, SupplierRow};

use super::dice::Dice;

/// A catalogue as the simulator needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimCatalogue {
    /// The goods; services are not simulated.
    pub products: Vec<SimProduct>,
    /// Locations that serve online orders.
    pub online: Vec<String>,
    /// Locations that sell over the counter.
    pub stores: Vec<String>,
    /// Who delivers.
    pub suppliers: Vec<String>,
    /// Opening stock: for each location (online first, then stores) and each product, the units.
    pub stock: Vec<i64>,
}

/// A product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimProduct {
    /// Its id.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// What kind of goods.
    pub category: String,
    /// Per unit.
    pub price: Money,
    /// At or below it more is ordered.
    pub reorder_point: Option<i64>,
}

/// How large a synthetic catalogue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Products, from 1.
    pub products: usize,
    /// Locations, from 2: one serves online orders, the others are stores.
    pub locations: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} products, {} locations", self.products, self.locations)
    }
}

/// Suppliers of a synthetic catalogue.
const SUPPLIERS: usize = 5;
/// Opening stock of a synthetic catalogue, in reorder points.
const OPENING_REORDER_POINTS: i64 = 5;
const CATEGORIES: [&str; 8] =
    ["kitchen", "garden", "toys", "stationery", "lighting", "textiles", "storage", "seasonal"];
const QUALITIES: [&str; 10] =
    ["Plain", "Striped", "Folding", "Large", "Small", "Red", "Blue", "Ivory", "Classic", "Travel"];
const THINGS: [[&str; 5]; 8] = [
    ["Teapot", "Cake Stand", "Mug", "Whisk", "Bread Bin"],
    ["Trowel", "Planter", "Bird Feeder", "Watering Can", "Lantern"],
    ["Puzzle", "Kite", "Spinning Top", "Dominoes", "Doll"],
    ["Notebook", "Pencil Set", "Ruler", "Letter Rack", "Ink Pad"],
    ["Table Lamp", "String Lights", "Candle Holder", "Night Light", "Shade"],
    ["Cushion", "Apron", "Tea Towel", "Throw", "Doormat"],
    ["Basket", "Hook Rack", "Drawer Box", "Jar Set", "Crate"],
    ["Wreath", "Bunting", "Gift Wrap", "Paper Star", "Bauble Set"],
];

impl SimCatalogue {
    /// Makes one up, always the same of a size.
    pub fn synthetic(size: Size) -> SimCatalogue {
        let mut dice = Dice::new([0x5175_7261_6b65, size.products as u64, size.locations as u64, 0]);
        let products: Vec<SimProduct> =
            (1..=size.products).map(|number| product(number, &mut dice)).collect();
        let stores = (1..size.locations.max(2)).map(|number| format!("store-{number}")).collect();
        let opening = products.iter().map(|p| p.reorder_point.unwrap_or(0) * OPENING_REORDER_POINTS);
        let opening: Vec<i64> = opening.collect();
        SimCatalogue {
            stock: opening.repeat(size.locations.max(2)),
            products,
            online: vec!["online".to_owned()],
            stores,
            suppliers: (1..=SUPPLIERS).map(|number| format!("supplier-{number}")).collect(),
        }
    }

    /// Of a catalogue's files, or what was read from the database into their form.
    pub fn from_files(files: &CatalogueFiles) -> SimCatalogue {
        let products: Vec<SimProduct> = (files.products.iter())
            .filter(|row| row.kind == ProductKind::Stock)
            .map(|row| SimProduct {
                product_id: row.product_id.clone(),
                name: row.name.clone(),
                category: row.category.clone(),
                price: row.price,
                reorder_point: row.reorder_point,
            })
            .collect();
        let of_kind = |kind: &str| -> Vec<String> {
            files.locations.iter().filter(|row| row.kind == kind).map(|row| row.location_id.clone()).collect()
        };
        let suppliers = files.suppliers.iter().map(|row| row.supplier_id.clone()).collect();
        let mut out = SimCatalogue {
            products,
            online: of_kind("online"),
            stores: of_kind("store"),
            suppliers,
            stock: Vec::new(),
        };
        let opening: FxHashMap<(&str, &str), i64> = (files.stock.iter())
            .map(|row| ((row.location_id.as_str(), row.product_id.as_str()), row.quantity))
            .collect();
        out.stock = (out.locations())
            .flat_map(|location| {
                out.products.iter().map(move |product| (location, product.product_id.as_str()))
            })
            .map(|row| opening.get(&row).copied().unwrap_or(0))
            .collect();
        out
    }

    /// As a catalogue's files, to be loaded.
    pub fn files(&self, currency: &str) -> CatalogueFiles {
        let product = |product: &SimProduct| ProductRow {
            line: 0,
            product_id: product.product_id.clone(),
            name: product.name.clone(),
            category: product.category.clone(),
            price: product.price,
            currency: currency.to_owned(),
            reorder_point: product.reorder_point,
            kind: ProductKind::Stock,
        };
        let supplier = |id: &String| SupplierRow {
            line: 0,
            supplier_id: id.clone(),
            name: id.replace('-', " ").replace("supplier", "Supplier"),
            contact: String::new(),
        };
        let location = |id: &str, kind: &str| LocationRow {
            line: 0,
            location_id: id.to_owned(),
            name: if kind == "online" { "Online shop".to_owned() } else { id.replace("store-", "Store ") },
            kind: kind.to_owned(),
            timezone: "UTC".to_owned(),
        };
        let stock = self.locations().enumerate().flat_map(|(at, location)| {
            self.products.iter().enumerate().map(move |(number, product)| StockRow {
                line: 0,
                product_id: product.product_id.clone(),
                location_id: location.to_owned(),
                quantity: self.opening(at, number),
            })
        });
        let online = self.online.iter().map(|id| location(id, "online"));
        CatalogueFiles {
            products: self.products.iter().map(product).collect(),
            suppliers: self.suppliers.iter().map(supplier).collect(),
            locations: online.chain(self.stores.iter().map(|id| location(id, "store"))).collect(),
            stock: stock.collect(),
            absent: Vec::new(),
        }
    }

    /// All locations, in the order of `stock`.
    pub fn locations(&self) -> impl Iterator<Item = &str> {
        self.online.iter().chain(&self.stores).map(String::as_str)
    }

    /// Units on the shelf at the beginning.
    pub fn opening(&self, location: usize, product: usize) -> i64 {
        self.stock.get(location * self.products.len() + product).copied().unwrap_or(0)
    }

    /// Whether there is what a source needs.
    ///
    /// # Errors
    /// When something is missing, by name.
    pub fn check(&self, needs_online: bool, needs_stores: bool) -> anyhow::Result<()> {
        if self.products.is_empty() {
            bail!(
                "the catalogue has no product of kind stock; load one (stocktide catalog load) or take --catalogue synthetic"
            );
        }
        if needs_online && self.online.is_empty() {
            bail!("the catalogue has no location of kind online, which online orders need");
        }
        if needs_stores && self.stores.is_empty() {
            bail!("the catalogue has no location of kind store, which store sales need");
        }
        Ok(())
    }
}

fn product(number: usize, dice: &mut Dice) -> SimProduct {
    let category = dice.below(CATEGORIES.len() as u64) as usize;
    let thing = dice.pick(&THINGS[category]).copied().unwrap_or_default();
    let quality = dice.pick(&QUALITIES).copied().unwrap_or_default();
    // Half cost less than 5, few more than 20, as in a shop for gifts.
    let pence = match dice.below(10) {
        0..5 => dice.between(35, 499),
        5..9 => dice.between(500, 1_999),
        _ => dice.between(2_000, 9_999),
    };
    SimProduct {
        product_id: format!("P{number:05}"),
        name: format!("{quality} {thing} {number}"),
        category: CATEGORIES[category].to_owned(),
        price: Money::from_ten_thousandths(pence * 100),
        reorder_point: Some(dice.between(4, 20) * 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synthetic_catalogue_is_always_the_same_of_a_size() {
        let size = Size { products: 50, locations: 3 };
        let catalogue = SimCatalogue::synthetic(size);
        assert_eq!(catalogue, SimCatalogue::synthetic(size));
        assert_eq!(catalogue.locations().collect::<Vec<_>>(), ["online", "store-1", "store-2"]);
        assert_eq!(catalogue.stock.len(), 150);
        assert!(catalogue.check(true, true).is_ok());
        assert!(catalogue.opening(2, 49) >= 100);
    }

    #[test]
    fn it_comes_back_from_its_files_as_it_was() {
        let catalogue = SimCatalogue::synthetic(Size { products: 20, locations: 4 });
        assert_eq!(SimCatalogue::from_files(&catalogue.files("GBP")), catalogue);
    }

    #[test]
    fn what_a_source_lacks_is_named() {
        let said = |catalogue: &SimCatalogue| format!("{:?}", catalogue.check(true, true));
        let mut catalogue = SimCatalogue::synthetic(Size { products: 1, locations: 2 });
        catalogue.stores.clear();
        assert!(said(&catalogue).contains("no location of kind store"));
        catalogue.online.clear();
        assert!(said(&catalogue).contains("no location of kind online"));
        catalogue.products.clear();
        assert!(said(&catalogue).contains("no product"));
    }
}
