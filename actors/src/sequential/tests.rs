//! Numbers worked by hand and properties.
