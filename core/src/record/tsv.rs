//! tsv
