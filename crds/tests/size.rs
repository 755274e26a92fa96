//! The definitions are small enough for every way of applying them.
//! Must not check rules: the examples do.

/// `kubectl apply` keeps a copy in an annotation of at most 256 KiB; half of that is our goal.
const MOST_BYTES: usize = 128 * 1024;

#[test]
fn every_definition_is_smaller_than_128_kib_as_compact_json() {
    for definition in crds::definition::all() {
        let size = serde_json::to_vec(&definition)
            .expect("a definition is written as JSON")
            .len();
        let kind = &definition.spec.names.kind;
        assert!(size < MOST_BYTES, "{kind} has {size} bytes");
    }
}
