// Package ondisk turns the bytes of a bcachefs volume into typed values and
// back. It is pure: no I/O, no state, no caches, and no memory that outlives
// its arguments unless a comment says so.
//
// Every structure has a decoder that checks all bounds and never panics, and an
// encoder that is its exact inverse. All integers are little-endian; volumes of
// big-endian writers are refused. Units: a sector is 512 bytes, a "u64" as a
// unit is 8 bytes. The chapters named in comments are those of docs/format.
//
// Structures that may be encrypted (btree node records, journal entries) decode
// in steps: header, then checksum and decryption by the caller, then the body.
package ondisk
