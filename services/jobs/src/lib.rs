//! The schedule, the runs, and the worker that executes them.
