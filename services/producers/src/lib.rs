//! Simulators of the sources and importers of real files.
