//! Capture files: pcap (microseconds and nanoseconds, both byte orders) and pcapng, plain or
//! packed with gzip or zstd, from a path or from standard input.
//!
//! Bytes in, [`Frame`]s out. A file that ends within a packet ends there, without an error: a
//! capture that was cut off is read as far as it goes.
