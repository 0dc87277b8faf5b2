package block

// OpenQcow2 opens an image in another device, for tests.
func OpenQcow2(src Reader) (Reader, error) { return unwrap(src) }
