package ondisk

import (
	"github.com/gobcachefs/gobcachefs/errs"
)

// CheckContext is what the rules about values depend on besides the key.
type CheckContext struct {
	Version Version          // of the volume
	Sizes   *ExtentTypeSizes // of extent entries, may be nil
	// Member gives the geometry of a member: sectors of a bucket, the first bucket and
	// the number of buckets. ok is false for members that are not there, whose
	// pointers are not checked. Nil checks none.
	Member func(dev uint8) (bucketSectors, first, nbuckets uint64, ok bool)
	// NodeSectors is the size of btree nodes, 0 unknown.
	NodeSectors uint32
	// EncodedMax is the limit of encoded blobs in sectors, 0 for none: a rule
	// for writers only.
	EncodedMax uint32
	// Writing adds the rules that only hold for what is being written.
	Writing bool
}

// CheckKey applies all the rules that a single key must keep: those of
// CheckLeafKey or, above the leaves, of node pointers, and those of its value
// (chapter 04, chapter 05 section 2.9, chapter 06). The error's Reason is the name
// of chapter 01 appendix A. Types and btrees of newer versions are not checked.
func CheckKey(c *CheckContext, b BtreeID, level int, kv KV) error {
	if level > 0 {
		switch kv.Type {
		case KeyDeleted:
			return nil
		case KeyBtreePtr, KeyBtreePtrV2:
		default:
			return errs.Corruptf("bkey_invalid_type_for_btree", "key type %s at level %d", kv.Type, level)
		}
		if kv.Size != 0 {
			return errs.Corruptf("bkey_size_nonzero", "%d", kv.Size)
		}
		return c.checkBtreePtr(kv)
	}
	if err := CheckLeafKey(b, kv, !c.Writing); err != nil {
		return err
	}
	return c.checkValue(b, kv)
}

func (c *CheckContext) checkValue(b BtreeID, kv KV) error {
	switch kv.Type {
	case KeyWhiteout, KeyHashWhiteout, KeySet, KeyExtentWhiteout:
		if len(kv.Val) != 0 {
			return errs.Corruptf("bkey_val_size_nonzero", "%d bytes", len(kv.Val))
		}
	case KeyError:
		if len(kv.Val) != 0 && c.Version < Version1_34 {
			return errs.Corruptf("bkey_val_size_nonzero", "%d bytes", len(kv.Val))
		}
	case KeyBtreePtr, KeyBtreePtrV2:
		return c.checkBtreePtr(kv)
	case KeyExtent:
		return c.checkEntries(kv, kv.Val)
	case KeyReservation:
		r, err := DecodeReservation(kv.Val)
		if err != nil {
			return err
		}
		if r.NrReplicas < 1 || r.NrReplicas > 4 {
			return errs.Corruptf("reservation_key_nr_replicas_invalid", "%d", r.NrReplicas)
		}
	case KeyReflinkP:
		p, err := DecodeReflinkP(kv.Val)
		if err != nil {
			return err
		}
		if p.Idx < uint64(p.FrontPad) {
			return errs.Corruptf("reflink_p_front_pad_bad", "idx %d, front_pad %d", p.Idx, p.FrontPad)
		}
	case KeyReflinkV:
		if kv.Pos.Offset > ReflinkIdxMax {
			return errs.Corruptf("reflink_v_pos_bad", "%s", kv.Pos)
		}
		_, entries, err := DecodeReflinkV(kv.Val)
		if err != nil {
			return err
		}
		return c.checkEntries(kv, entries)
	case KeyInode, KeyInodeV2, KeyInodeV3:
		return checkInode(kv)
	case KeyInodeGeneration:
		if kv.Pos.Inode != 0 {
			return errs.Corruptf("inode_pos_inode_nonzero", "%s", kv.Pos)
		}
	case KeyDirent:
		d, err := DecodeDirent(kv)
		if err != nil {
			return err
		}
		if c.Writing && len(d.Name) > NameMax {
			return errs.Corruptf("dirent_name_too_long", "%d bytes", len(d.Name))
		}
		return d.check(kv)
	case KeyXattr:
		x, err := DecodeXattr(kv)
		if err != nil {
			return err
		}
		return x.check(kv)
	case KeyQuota:
		if kv.Pos.Inode >= NrQuotaTypes {
			return errs.Corruptf("quota_type_invalid", "type %d", kv.Pos.Inode)
		}
	case KeyAlloc, KeyAllocV2, KeyAllocV3:
		_, err := DecodeAlloc(kv)
		return err
	case KeyAllocV4:
		a, err := DecodeAlloc(kv)
		if err != nil {
			return err
		}
		return a.check()
	case KeyBucketGens:
		_, err := DecodeBucketGens(kv.Val)
		return err
	case KeyStripe:
		s, err := DecodeStripe(kv.Val)
		if err != nil {
			return err
		}
		return c.checkStripe(kv, &s)
	case KeySubvolume:
		s, err := DecodeSubvolume(kv.Val)
		if err != nil {
			return err
		}
		return s.check(kv)
	case KeySnapshot:
		s, err := DecodeSnapshot(kv.Val)
		if err != nil {
			return err
		}
		return s.check(kv)
	case KeySnapshotTree:
		if kv.Pos.Inode != 0 || kv.Pos.Offset == 0 || kv.Pos.Offset > 1<<32-1 {
			return errs.Corruptf("snapshot_tree_pos_bad", "%s", kv.Pos)
		}
	case KeyBackpointer:
		return c.checkBackpointer(b, kv)
	case KeyAccounting:
		return c.checkAccounting(kv)
	case KeyInodeAllocCursor:
		if kv.Pos.Inode != LoggedOpInodeCursors {
			return errs.Corruptf("inode_alloc_cursor_inode_bad", "%s", kv.Pos)
		}
	case KeyDamage:
		_, err := DecodeDamage(kv.Val)
		return err
	}
	if b == BtreeLRU && kv.Pos.Inode&LRUTimeMax == 0 {
		return errs.Corruptf("lru_entry_at_time_0", "%s", kv.Pos)
	}
	return nil
}

func checkInode(kv KV) error {
	if kv.Pos.Inode != 0 {
		return errs.Corruptf("inode_pos_inode_nonzero", "%s", kv.Pos)
	}
	if kv.Pos.Offset < FirstInode {
		return errs.Corruptf("inode_pos_blockdev_range", "%s", kv.Pos)
	}
	if kv.Type == KeyInodeV3 && len(kv.Val) >= KeyInodeV3.MinVal() {
		// Bits 31..35: the start of the varints in u64s.
		start := int(kv.Val[19]>>7) | int(kv.Val[20]&15)<<1
		if start < inodeV3FixedBytes/8 || start > len(kv.Val)/8 {
			return errs.Corruptf("inode_v3_fields_start_bad", "%d of %d u64s", start, len(kv.Val)/8)
		}
	}
	i, err := DecodeInode(kv)
	if err != nil {
		return err
	}
	switch {
	case i.StrHash >= 4:
		return errs.Corruptf("inode_str_hash_invalid", "%d", i.StrHash)
	case i.Unlinked() && i.Nlink != 0:
		return errs.Corruptf("inode_unlinked_but_nlink_nonzero", "nlink %d", i.Nlink)
	case i.Subvol != 0 && !i.IsDir():
		return errs.Corruptf("inode_subvol_root_but_not_dir", "mode %o", i.Mode)
	}
	return nil
}

func (c *CheckContext) checkBtreePtr(kv KV) error {
	p, err := DecodeBtreePtr(kv)
	if err != nil {
		return err
	}
	n := len(kv.Val) / 8
	switch {
	case kv.Type == KeyBtreePtr && n > 4:
		return errs.Corruptf("btree_ptr_val_too_big", "%d u64s", n)
	case kv.Type == KeyBtreePtrV2 && n > 15:
		return errs.Corruptf("btree_ptr_v2_val_too_big", "%d u64s", n)
	case kv.Type == KeyBtreePtrV2 && c.Writing && p.SectorsWritten == 0:
		return errs.Corruptf("btree_ptr_v2_written_0", "0")
	}
	return c.checkEntries(kv, kv.Val[min(len(kv.Val), btreePtrOffset(kv.Type)):])
}

func btreePtrOffset(t KeyType) int {
	if t == KeyBtreePtrV2 {
		return btreePtrHeader
	}
	return 0
}

// checkEntries applies chapter 05 section 2.9 to the entries of a key.
func (c *CheckContext) checkEntries(kv KV, val []byte) error {
	node := kv.Type == KeyBtreePtr || kv.Type == KeyBtreePtrV2
	var (
		err                error
		ptrs, valid        int
		devs               [256]bool
		crc                = Crc{}
		diskSize           = uint64(kv.Size)
		pendingCrc         bool // a crc that no pointer used yet
		pendingStripe      bool
		written, unwritten bool
		nonce              = -1
		stripes            bool
	)
	if node {
		diskSize = uint64(c.NodeSectors)
	}
	bad := func(reason, format string, a ...any) bool {
		err = errs.Corruptf(reason, format, a...)
		return false
	}
	first := true
	walk := ExtentEntries(val, c.Sizes, func(e ExtentEntry) bool {
		atStart := first
		first = false
		if node && e.Type != XEPtr && e.Type != XEReconcile && e.Type != XEReconcileBp {
			return bad("btree_ptr_has_non_ptr", "entry %s", e.Type)
		}
		switch e.Type {
		case XEPtr:
			p := e.Ptr
			if ptrs++; ptrs > MaxPtrs {
				return bad("extent_ptrs_too_many_ptrs", "more than %d", MaxPtrs)
			}
			if p.Unwritten && kv.Type != KeyExtent {
				return bad("extent_ptrs_unwritten", "in a key of type %s", kv.Type)
			}
			if p.Cached && pendingStripe {
				return bad("ptr_cached_and_erasure_coded", "dev %d", p.Dev)
			}
			if p.Dev != InvalidDev {
				if devs[p.Dev] {
					return bad("ptr_to_duplicate_device", "dev %d", p.Dev)
				}
				devs[p.Dev] = true
				written, unwritten = written || !p.Unwritten, unwritten || p.Unwritten
				valid++
				if err = c.checkPtr(p, diskSize); err != nil {
					return false
				}
			}
			stripes = stripes || pendingStripe
			pendingCrc, pendingStripe = false, false
		case XECrc32, XECrc64, XECrc128:
			crc = e.Crc
			if err = crc.check(kv.Size); err != nil {
				return false
			}
			if pendingCrc {
				return bad("ptr_crc_redundant", "two crc entries without a pointer between")
			}
			if c.EncodedMax != 0 && crc.Encoded() && crc.UncompressedSize > c.EncodedMax {
				return bad("ptr_crc_uncompressed_size_too_big", "%d sectors, limit %d", crc.UncompressedSize, c.EncodedMax)
			}
			if crc.CsumType.Encrypted() {
				n := int(crc.Offset) + int(crc.Nonce)
				if nonce >= 0 && n != nonce {
					return bad("ptr_crc_nonce_mismatch", "offset+nonce %d and %d", nonce, n)
				}
				nonce = n
			}
			diskSize, pendingCrc = uint64(crc.CompressedSize), true
		case XEStripePtr:
			if pendingStripe {
				return bad("ptr_stripe_redundant", "two stripe entries without a pointer between")
			}
			pendingStripe = true
		case XEFlags:
			if !atStart {
				return bad("extent_flags_not_at_start", "flags behind another entry")
			}
		case XEReconcile:
			r := DecodeReconcile(e.Raw[0])
			switch {
			case r.Pending && r.Need == 0:
				return bad("extent_reconcile_bad_pending", "pending without need")
			case r.Hipri && r.Need&ReconcileDataReplicas == 0:
				return bad("extent_reconcile_bad_hipri", "hipri without need of replicas")
			case r.DataReplicas == 0:
				return bad("extent_reconcile_bad_replicas", "data_replicas 0")
			}
		}
		return true
	})
	switch {
	case walk != nil:
		return walk
	case err != nil:
		return err
	case ptrs == 0:
		return errs.Corruptf("extent_ptrs_no_ptrs", "no pointer")
	case written && unwritten:
		return errs.Corruptf("extent_ptrs_written_and_unwritten", "both kinds of pointers")
	case pendingCrc:
		return errs.Corruptf("extent_ptrs_redundant_crc", "crc entry behind the last pointer")
	case pendingStripe:
		return errs.Corruptf("extent_ptrs_redundant_stripe", "stripe entry behind the last pointer")
	case !node && valid == 0 && !stripes:
		return errs.Corruptf("extent_ptrs_all_invalid", "%d pointers to no device", ptrs)
	}
	return nil
}

// checkPtr checks that a pointer stays inside a bucket of its member.
func (c *CheckContext) checkPtr(p Ptr, sectors uint64) error {
	if c.Member == nil {
		return nil
	}
	size, first, n, ok := c.Member(p.Dev)
	if !ok || size == 0 {
		return nil
	}
	switch bucket := p.Offset / size; {
	case bucket >= n:
		return errs.Corruptf("ptr_after_last_bucket", "dev %d bucket %d of %d", p.Dev, bucket, n)
	case bucket < first:
		return errs.Corruptf("ptr_before_first_bucket", "dev %d bucket %d, first %d", p.Dev, bucket, first)
	case p.Offset%size+sectors > size:
		return errs.Corruptf("ptr_spans_multiple_buckets", "dev %d sector %d of a bucket of %d, %d sectors", p.Dev, p.Offset%size, size, sectors)
	}
	return nil
}

// checkStripe applies chapter 06 section 13.1 and the rules of pointers to the
// blocks. That a block stays inside its bucket is not checked by the reference.
func (c *CheckContext) checkStripe(kv KV, s *Stripe) error {
	if kv.Pos.Inode != 0 || kv.Pos.Offset == 0 || kv.Pos.Offset > 1<<32-1 {
		return errs.Corruptf("stripe_pos_bad", "%s", kv.Pos)
	}
	var devs [256]bool
	for _, p := range s.Ptrs {
		if p.Dev == InvalidDev {
			continue
		}
		if devs[p.Dev] {
			return errs.Corruptf("ptr_to_duplicate_device", "dev %d", p.Dev)
		}
		devs[p.Dev] = true
		if err := c.checkPtr(p, 0); err != nil {
			return err
		}
	}
	return nil
}

func (c *CheckContext) checkBackpointer(b BtreeID, kv KV) error {
	p, err := DecodeBackpointer(kv.Val, c.Version)
	if err != nil {
		return err
	}
	if p.Level > MaxLevel+1 {
		return errs.Corruptf("backpointer_level_bad", "level %d", p.Level)
	}
	if b != BtreeBackpointers {
		return nil
	}
	if c.Version >= Version1_14 {
		if kv.Pos.Inode == InvalidDev {
			return errs.Corruptf("backpointer_dev_bad", "%s", kv.Pos)
		}
		return nil
	}
	if c.Member == nil || kv.Pos.Inode > InvalidDev {
		return nil
	}
	if size, _, _, ok := c.Member(uint8(kv.Pos.Inode)); ok && size != 0 {
		inBucket := kv.Pos.Offset % (size << DefaultBackpointerShift)
		if p.BucketOffset>>DefaultBackpointerShift >= size || p.BucketOffset != inBucket {
			return errs.Corruptf("backpointer_bucket_offset_wrong", "bucket_offset %d at %s", p.BucketOffset, kv.Pos)
		}
	}
	return nil
}

func (c *CheckContext) checkAccounting(kv KV) error {
	if c.Version < Version1_9 {
		return nil
	}
	a, err := DecodeAccountingPos(kv.Pos, AccountingFormOf(c.Version))
	if err != nil {
		return err
	}
	if c.Writing {
		if kv.Version == (Bversion{}) {
			return errs.Corruptf("accounting_key_version_0", "%s", a.Type)
		}
		if n := a.Type.NrCounters(c.Version); n != 0 && n != len(kv.Val)/8 {
			return errs.Corruptf("accounting_key_nr_counters_wrong", "%s has %d counters, want %d", a.Type, len(kv.Val)/8, n)
		}
	}
	return nil
}
