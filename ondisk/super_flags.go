package ondisk

// sbBits is a bit range [lo, hi) of one of the seven flag words.
type sbBits struct{ word, lo, hi uint8 }

func (f sbBits) mask() uint64 { return ^uint64(0) >> (64 - (f.hi - f.lo)) }

func (f sbBits) get(sb *Superblock) uint64 { return sb.Flags[f.word] >> f.lo & f.mask() }

// set stores v; bits that do not fit are dropped.
func (f sbBits) set(sb *Superblock, v uint64) {
	sb.Flags[f.word] = sb.Flags[f.word]&^(f.mask()<<f.lo) | (v&f.mask())<<f.lo
}

// State bits (chapter 01 section 3.1).
var (
	sbInitialized        = sbBits{0, 0, 1}
	sbClean              = sbBits{0, 1, 2}
	sbCsumTypeBits       = sbBits{0, 2, 8}
	sbHasErrors          = sbBits{0, 60, 61}
	sbHasTopologyErrors  = sbBits{0, 61, 62}
	sbBigEndian          = sbBits{0, 62, 63}
	sbEncryptionType     = sbBits{1, 10, 14}
	sbMetaReplicasReq    = sbBits{1, 20, 24}
	sbDataReplicasReq    = sbBits{1, 24, 28}
	sbMultiDevice        = sbBits{3, 63, 64}
	sbVersionUpgradeDone = sbBits{5, 0, 16}
	sbVersionIncompat    = sbBits{5, 32, 48}
	sbVersionAllowed     = sbBits{5, 48, 64}
	sbExtentBPShift      = sbBits{6, 40, 48}
	sbDirentsSanitized   = sbBits{6, 59, 60}
)

func (f sbBits) isSet(sb *Superblock) bool { return f.get(sb) != 0 }

func (f sbBits) put(sb *Superblock, on bool) {
	v := uint64(0)
	if on {
		v = 1
	}
	f.set(sb, v)
}

// Initialized: btrees and a journal exist. A fresh volume has none until it is
// mounted for the first time.
func (sb *Superblock) Initialized() bool { return sbInitialized.isSet(sb) }

// SetInitialized sets the bit.
func (sb *Superblock) SetInitialized(on bool) { sbInitialized.put(sb, on) }

// Clean: the volume was shut down, the field clean is valid.
func (sb *Superblock) Clean() bool { return sbClean.isSet(sb) }

// SetClean sets the bit. Clearing it also sets FeaturesAlways, without which
// release 1.13 refuses a volume that is not clean (chapter 01 section 4).
func (sb *Superblock) SetClean(on bool) {
	sbClean.put(sb, on)
	if !on {
		sb.Features[0] |= FeaturesAlways
	}
}

// HasErrors: an inconsistency was found and not repaired yet.
func (sb *Superblock) HasErrors() bool { return sbHasErrors.isSet(sb) }

// SetHasErrors sets the bit.
func (sb *Superblock) SetHasErrors(on bool) { sbHasErrors.put(sb, on) }

// HasTopologyErrors: the next mount must run check_topology.
func (sb *Superblock) HasTopologyErrors() bool { return sbHasTopologyErrors.isSet(sb) }

// SetHasTopologyErrors sets the bit.
func (sb *Superblock) SetHasTopologyErrors(on bool) { sbHasTopologyErrors.put(sb, on) }

// BigEndian: keys in the superblock are in the byte order of a big-endian
// writer. Refused by Validate.
func (sb *Superblock) BigEndian() bool { return sbBigEndian.isSet(sb) }

// CsumType is the checksum type of the superblock itself.
func (sb *Superblock) CsumType() CsumType { return CsumType(sbCsumTypeBits.get(sb)) }

// SetCsumType sets the checksum type of the superblock itself.
func (sb *Superblock) SetCsumType(t CsumType) { sbCsumTypeBits.set(sb, uint64(t)) }

// EncryptionType is 0 for none, 1 for ChaCha20 with Poly1305.
func (sb *Superblock) EncryptionType() int { return int(sbEncryptionType.get(sb)) }

// SetEncryptionType sets the encryption type.
func (sb *Superblock) SetEncryptionType(t int) { sbEncryptionType.set(sb, uint64(t)) }

// Encrypted: metadata and data are encrypted.
func (sb *Superblock) Encrypted() bool { return sb.EncryptionType() != 0 }

// MultiDevice: the volume has, or had, more than one device (1.28 and later).
func (sb *Superblock) MultiDevice() bool { return sbMultiDevice.isSet(sb) }

// SetMultiDevice sets the bit.
func (sb *Superblock) SetMultiDevice(on bool) { sbMultiDevice.put(sb, on) }

// VersionUpgradeComplete is the last version whose upgrade passes finished; an
// unset field means the version of the volume.
func (sb *Superblock) VersionUpgradeComplete() Version {
	if v := Version(sbVersionUpgradeDone.get(sb)); v != 0 {
		return v
	}
	return sb.Version
}

// SetVersionUpgradeComplete sets the field.
func (sb *Superblock) SetVersionUpgradeComplete(v Version) { sbVersionUpgradeDone.set(sb, uint64(v)) }

// VersionIncompat is the highest version of which an incompatible feature is in
// use, 0 for none.
func (sb *Superblock) VersionIncompat() Version { return Version(sbVersionIncompat.get(sb)) }

// SetVersionIncompat sets the field.
func (sb *Superblock) SetVersionIncompat(v Version) { sbVersionIncompat.set(sb, uint64(v)) }

// VersionIncompatAllowed is the version up to which incompatible features may
// be used, never above the version of the volume, which kernels that downgrade
// do not maintain, and never below what is in use.
func (sb *Superblock) VersionIncompatAllowed() Version {
	return max(min(Version(sbVersionAllowed.get(sb)), sb.Version), sb.VersionIncompat())
}

// SetVersionIncompatAllowed sets the field.
func (sb *Superblock) SetVersionIncompatAllowed(v Version) { sbVersionAllowed.set(sb, uint64(v)) }

// IncompatAllowed: structures of the incompatible version v may be used.
func (sb *Superblock) IncompatAllowed(v Version) bool {
	return sb.HasFeature(FeatureIncompatVersionField) && v <= sb.VersionIncompatAllowed()
}

// ExtentBPShift is the shift of sector numbers in positions of backpointers.
func (sb *Superblock) ExtentBPShift() int {
	if s := sbExtentBPShift.get(sb); s != 0 {
		return int(s)
	}
	return 10
}

// SetExtentBPShift sets the field.
func (sb *Superblock) SetExtentBPShift(n int) { sbExtentBPShift.set(sb, uint64(n)) }

// DirentsSanitized: a sanitized dump, hashes of dirents mean nothing.
func (sb *Superblock) DirentsSanitized() bool { return sbDirentsSanitized.isSet(sb) }

// SetReplicasRequired sets the two fields that releases up to 1.13 refuse when
// they are 0.
func (sb *Superblock) SetReplicasRequired(meta, data int) {
	sbMetaReplicasReq.set(sb, uint64(meta))
	sbDataReplicasReq.set(sb, uint64(data))
}

// HasFeature: the incompatible feature bit is set.
func (sb *Superblock) HasFeature(f Feature) bool { return f < 128 && sb.Features[f/64]>>(f%64)&1 != 0 }

// SetFeature sets or clears an incompatible feature bit.
func (sb *Superblock) SetFeature(f Feature, on bool) {
	if f < 128 {
		sb.Features[f/64] &^= 1 << (f % 64)
		if on {
			sb.Features[f/64] |= 1 << (f % 64)
		}
	}
}

// HasCompat: the compatible feature bit is set.
func (sb *Superblock) HasCompat(c Compat) bool { return c < 128 && sb.Compat[c/64]>>(c%64)&1 != 0 }

// SetCompat sets or clears a compatible feature bit.
func (sb *Superblock) SetCompat(c Compat, on bool) {
	if c < 128 {
		sb.Compat[c/64] &^= 1 << (c % 64)
		if on {
			sb.Compat[c/64] |= 1 << (c % 64)
		}
	}
}

// FeatureBits lists the set bits of features in order.
func (sb *Superblock) FeatureBits() []Feature { return bitList[Feature](sb.Features[:]) }

// CompatBits lists the set bits of compat in order.
func (sb *Superblock) CompatBits() []Compat { return bitList[Compat](sb.Compat[:]) }

// bitList lists the numbers of the set bits of a bitmap.
func bitList[T ~uint8 | ~uint16](words []uint64) []T {
	var l []T
	for i, w := range words {
		for b := range 64 {
			if w>>b&1 != 0 {
				l = append(l, T(64*i+b))
			}
		}
	}
	return l
}
