package ondisk

// Stored options that code asks for all the time (chapter 01 section 3.2).
var (
	sbNodeSize   = sbBits{0, 12, 28}
	sbMetaCsum   = sbBits{0, 40, 44}
	sbDataCsum   = sbBits{0, 44, 48}
	sbStrHash    = sbBits{1, 0, 4}
	sbExtentMax  = sbBits{1, 14, 20}
	sbWideMacs   = sbBits{1, 9, 10}
	sbCasefold   = sbBits{6, 22, 23}
	sbInodes32   = sbBits{1, 8, 9}
	sbShardInums = sbBits{6, 0, 4}
	sbTransNames = sbBits{4, 32, 33}
)

// NodeSectors is the size of a btree node in sectors.
func (sb *Superblock) NodeSectors() int { return int(sbNodeSize.get(sb)) }

// EncodedExtentMax is the largest checksummed or compressed extent in sectors.
func (sb *Superblock) EncodedExtentMax() int {
	// A hostile shift must not overflow; Validate refuses more than 12.
	return 1 << min(sbExtentMax.get(sb), 30)
}

// CsumOpt is the value of the options metadata_checksum and data_checksum,
// which are not the checksum types on disk.
type CsumOpt uint8

// Checksum options.
const (
	CsumOptNone   CsumOpt = 0
	CsumOptCRC32C CsumOpt = 1
	CsumOptCRC64  CsumOpt = 2
	CsumOptXXHash CsumOpt = 3
	NrCsumOpts            = 4
)

// DataType is the checksum type for data without encryption.
func (o CsumOpt) DataType() CsumType {
	return [4]CsumType{CsumNone, CsumCRC32C, CsumCRC64, CsumXXHash}[o&3]
}

// MetaType is the checksum type for btree nodes, the journal and the superblock
// without encryption.
func (o CsumOpt) MetaType() CsumType {
	return [4]CsumType{CsumNone, CsumCRC32CNonzero, CsumCRC64Nonzero, CsumXXHash}[o&3]
}

// MetadataChecksum is the option of that name.
func (sb *Superblock) MetadataChecksum() CsumOpt { return CsumOpt(sbMetaCsum.get(sb)) }

// DataChecksum is the option of that name.
func (sb *Superblock) DataChecksum() CsumOpt { return CsumOpt(sbDataCsum.get(sb)) }

// MetaCsumType is the checksum type for btree nodes and the journal, encryption
// considered.
func (sb *Superblock) MetaCsumType() CsumType {
	if sb.Encrypted() {
		return CsumPoly1305_128
	}
	return sb.MetadataChecksum().MetaType()
}

// WideMacs: MACs of data are 128 bits instead of 80.
func (sb *Superblock) WideMacs() bool { return sbWideMacs.isSet(sb) }

// StrHashOpt is the option str_hash: 0 crc32c, 1 crc64, 2 siphash.
func (sb *Superblock) StrHashOpt() int { return int(sbStrHash.get(sb)) }

// StrHashType is the hash type that new inodes get for the option: 0 crc32c, 1
// crc64, 2 the old siphash, 3 siphash.
func (sb *Superblock) StrHashType() int {
	if t := sb.StrHashOpt(); t < 2 || !sb.HasFeature(FeatureNewSiphash) {
		return t
	}
	return 3
}

// CasefoldDefault: new directories ignore case.
func (sb *Superblock) CasefoldDefault() bool { return sbCasefold.isSet(sb) }

// Inodes32Bit: inode numbers stay below 2^31.
func (sb *Superblock) Inodes32Bit() bool { return sbInodes32.isSet(sb) }

// JournalTransactionNames: transactions and overwritten keys are logged to the
// journal.
func (sb *Superblock) JournalTransactionNames() bool { return sbTransNames.isSet(sb) }

// ShardInodeBits is the number of bits of inode numbers that come from the CPU.
func (sb *Superblock) ShardInodeBits() int { return int(sbShardInums.get(sb)) }
