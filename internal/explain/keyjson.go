package explain

import (
	"encoding/hex"
	"time"
	"unicode/utf8"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// KeyDoc is a key for JSON. Field names are stable; new ones may be added.
// Numbers of 64 bits are JSON numbers with all their digits.
type KeyDoc struct {
	Btree     string `json:"btree"`
	Level     int    `json:"level"`
	Type      string `json:"type"`
	Pos       PosDoc `json:"pos"`
	Size      uint32 `json:"size,omitempty"` // sectors
	U64s      int    `json:"u64s"`
	Version   uint64 `json:"version,omitempty"`
	VersionHi uint32 `json:"version_hi,omitempty"`
	// Value depends on Type; nil for types without one.
	Value any `json:"value,omitempty"`
	// Error says what is wrong with the value; Value then has what could be read.
	Error string `json:"error,omitempty"`
}

// PosDoc is a position.
type PosDoc struct {
	Inode    uint64 `json:"inode"`
	Offset   uint64 `json:"offset"`
	Snapshot uint32 `json:"snapshot"`
}

func posDoc(p ondisk.Pos) PosDoc { return PosDoc{p.Inode, p.Offset, p.Snapshot} }

// ExtentDoc is the value of an extent or reflink_v, and part of others.
type ExtentDoc struct {
	Refcount     *uint64       `json:"refcount,omitempty"`
	Entries      []EntryDoc    `json:"entries"`
	Poisoned     bool          `json:"poisoned,omitempty"`
	Durability   int           `json:"durability"`
	Rebalance    *RebalanceDoc `json:"rebalance,omitempty"`
	Reconcile    *ReconcileDoc `json:"reconcile,omitempty"`
	ReconcileBp  uint64        `json:"reconcile_bp,omitempty"`
	UnknownTypes []int         `json:"unknown_entries,omitempty"`
}

// EntryDoc is one entry; exactly one field is set.
type EntryDoc struct {
	Ptr       *PtrDoc       `json:"ptr,omitempty"`
	Crc       *CrcDoc       `json:"crc,omitempty"`
	StripePtr *StripePtrDoc `json:"stripe_ptr,omitempty"`
}

// PtrDoc is a pointer. Bucket and BucketOffset are only there when the
// geometry of the member is known.
type PtrDoc struct {
	Dev          uint8   `json:"dev"`
	Sector       uint64  `json:"sector"`
	Gen          uint8   `json:"gen"`
	Bucket       *uint64 `json:"bucket,omitempty"`
	BucketOffset *uint64 `json:"bucket_offset,omitempty"`
	Cached       bool    `json:"cached,omitempty"`
	Unwritten    bool    `json:"unwritten,omitempty"`
	Stale        bool    `json:"stale,omitempty"`
}

// CrcDoc is what is known of a stored blob; sizes in sectors.
type CrcDoc struct {
	Bits             int    `json:"bits"`
	CompressedSize   uint32 `json:"compressed_size"`
	UncompressedSize uint32 `json:"uncompressed_size"`
	Offset           uint32 `json:"offset"`
	Nonce            uint32 `json:"nonce"`
	CsumType         string `json:"csum_type"`
	Compression      string `json:"compression"`
	Csum             string `json:"csum"` // the stored bytes in hex
}

// StripePtrDoc says which block of a stripe a pointer is.
type StripePtrDoc struct {
	Index      uint64 `json:"idx"`
	Block      uint8  `json:"block"`
	Redundancy uint8  `json:"redundancy"`
}

// RebalanceDoc is the pending work of versions up to 1.32.
type RebalanceDoc struct {
	Target      string `json:"target"`
	Compression string `json:"compression"`
}

// ReconcileDoc is the pending work from 1.33 on.
type ReconcileDoc struct {
	Need                  []string `json:"need"`
	Hipri                 bool     `json:"hipri,omitempty"`
	Pending               bool     `json:"pending,omitempty"`
	PtrsMoving            uint8    `json:"ptrs_moving,omitempty"`
	FromInode             []string `json:"from_inode,omitempty"`
	DataReplicas          uint8    `json:"data_replicas"`
	DataChecksum          string   `json:"data_checksum"`
	ErasureCode           bool     `json:"erasure_code"`
	BackgroundCompression string   `json:"background_compression"`
	BackgroundTarget      string   `json:"background_target"`
	PromoteTarget         string   `json:"promote_target"`
}

// BtreePtrDoc is the value of a node pointer.
type BtreePtrDoc struct {
	Seq            uint64 `json:"seq"`
	SectorsWritten uint16 `json:"sectors_written"`
	RangeUpdated   bool   `json:"range_updated,omitempty"`
	MinKey         PosDoc `json:"min_key"`
	ExtentDoc
}

// InodeDoc is the value of an inode. Options are as stored: the value plus one.
type InodeDoc struct {
	JournalSeq uint64            `json:"journal_seq"`
	HashSeed   uint64            `json:"hash_seed"`
	HashType   string            `json:"hash_type"`
	Mode       uint16            `json:"mode"`
	FileType   string            `json:"file_type"`
	Flags      []string          `json:"flags"`
	Size       uint64            `json:"size"`
	Sectors    uint64            `json:"sectors"`
	Links      uint32            `json:"links"`
	Times      map[string]string `json:"times"` // RFC 3339
	Fields     map[string]uint64 `json:"fields"`
}

// DirentDoc is the value of a dirent. NameHex is there when the name is not
// UTF-8.
type DirentDoc struct {
	Name         string `json:"name"`
	NameHex      string `json:"name_hex,omitempty"`
	CfName       string `json:"cf_name,omitempty"`
	Type         string `json:"type"`
	Inode        uint64 `json:"inode,omitempty"`
	ChildSubvol  uint32 `json:"child_subvol,omitempty"`
	ParentSubvol uint32 `json:"parent_subvol,omitempty"`
	Casefold     bool   `json:"casefold,omitempty"`
}

// XattrDoc is the value of an xattr; the value itself is in hex.
type XattrDoc struct {
	Type    uint8    `json:"type"`
	Name    string   `json:"name"` // with prefix
	NameHex string   `json:"name_hex,omitempty"`
	Value   string   `json:"value"`
	ACL     []ACLDoc `json:"acl,omitempty"`
}

// ACLDoc is an entry of an ACL.
type ACLDoc struct {
	Tag  string `json:"tag"`
	ID   uint32 `json:"id,omitempty"`
	Perm uint16 `json:"perm"`
}

// AllocDoc is the state of a bucket.
type AllocDoc struct {
	Gen             uint8  `json:"gen"`
	OldestGen       uint8  `json:"oldest_gen"`
	DataType        string `json:"data_type"`
	JournalSeq      uint64 `json:"journal_seq_nonempty"`
	JournalSeqEmpty uint64 `json:"journal_seq_empty"`
	NeedDiscard     bool   `json:"need_discard"`
	NeedIncGen      bool   `json:"need_inc_gen"`
	DirtySectors    uint32 `json:"dirty_sectors"`
	StripeSectors   uint32 `json:"stripe_sectors"`
	CachedSectors   uint32 `json:"cached_sectors"`
	Stripe          uint32 `json:"stripe"`
	IOTimeRead      uint64 `json:"io_time_read"`
	IOTimeWrite     uint64 `json:"io_time_write"`
	Fragmentation   uint64 `json:"fragmentation"`
}

// BackpointerDoc is the value of a backpointer.
type BackpointerDoc struct {
	Btree        string `json:"btree"`
	Level        uint8  `json:"level"`
	DataType     string `json:"data_type"`
	Sector       uint64 `json:"sector"`
	BucketOffset uint64 `json:"bucket_offset,omitempty"` // up to 1.13
	BucketGen    uint8  `json:"bucket_gen"`
	BucketLen    uint32 `json:"bucket_len"`
	Flags        uint32 `json:"flags,omitempty"`
	Pos          PosDoc `json:"pos"`
}

// StripeDoc is the value of a stripe.
type StripeDoc struct {
	Algorithm      uint8    `json:"algorithm"`
	Sectors        uint16   `json:"sectors"`
	NrData         int      `json:"nr_data"`
	NrRedundant    uint8    `json:"nr_redundant"`
	CsumType       string   `json:"csum_type"`
	CsumSectors    uint64   `json:"csum_granularity"` // sectors
	DiskLabel      string   `json:"disk_label"`
	NeedsReconcile bool     `json:"needs_reconcile,omitempty"`
	Ptrs           []PtrDoc `json:"ptrs"`
	LiveSectors    []uint16 `json:"live_sectors"`
}

// AccountingDoc is an accounting key; which fields are set follows from Type.
type AccountingDoc struct {
	Type        string  `json:"type"`
	NrReplicas  uint8   `json:"nr_replicas,omitempty"`
	DataType    string  `json:"data_type,omitempty"`
	NrRequired  *uint8  `json:"nr_required,omitempty"`
	Devs        []int   `json:"devs,omitempty"`
	Dev         *uint32 `json:"dev,omitempty"`
	Compression string  `json:"compression,omitempty"`
	Snapshot    *uint32 `json:"snapshot,omitempty"`
	Btree       string  `json:"btree,omitempty"`
	Inode       *uint64 `json:"inode,omitempty"`
	Kind        string  `json:"kind,omitempty"`
	Counters    []int64 `json:"counters"`
}

// KeyJSON makes the document of a key.
func KeyJSON(env *Env, bt ondisk.BtreeID, level int, kv ondisk.KV) KeyDoc {
	w := w{Env: env}
	d := KeyDoc{Btree: w.btree(uint32(bt)), Level: level, Type: kv.Type.String(), Pos: posDoc(kv.Pos), Size: kv.Size, U64s: kv.U64s(),
		Version: kv.Version.Lo, VersionHi: kv.Version.Hi}
	if len(kv.Val) == 0 {
		return d
	}
	v, err := w.valueDoc(kv)
	d.Value = v
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

func (w *w) valueDoc(kv ondisk.KV) (any, error) {
	switch kv.Type {
	case ondisk.KeyBtreePtr, ondisk.KeyBtreePtrV2:
		p, err := ondisk.DecodeBtreePtr(kv)
		val := kv.Val
		if p.V2 {
			val = val[40:]
		}
		x, _ := w.extentDoc(val)
		return BtreePtrDoc{p.Seq, p.SectorsWritten, p.RangeUpdated, posDoc(p.MinKey), x}, err
	case ondisk.KeyExtent:
		x, err := w.extentDoc(kv.Val)
		return x, err
	case ondisk.KeyReservation:
		r, err := ondisk.DecodeReservation(kv.Val)
		return doc{"generation": r.Generation, "nr_replicas": r.NrReplicas}, err
	case ondisk.KeyReflinkP:
		p, err := ondisk.DecodeReflinkP(kv.Val)
		return doc{"idx": p.Idx, "front_pad": p.FrontPad, "back_pad": p.BackPad, "error": p.Error, "may_update_options": p.MayUpdateOptions}, err
	case ondisk.KeyReflinkV:
		n, entries, err := ondisk.DecodeReflinkV(kv.Val)
		if err != nil {
			return nil, err
		}
		x, err := w.extentDoc(entries)
		x.Refcount = &n
		return x, err
	case ondisk.KeyInlineData:
		return doc{"data": hex.EncodeToString(kv.Val)}, nil
	case ondisk.KeyIndirectInlineData:
		n, data, err := ondisk.DecodeReflinkV(kv.Val)
		return doc{"refcount": n, "data": hex.EncodeToString(data)}, err
	case ondisk.KeyInode, ondisk.KeyInodeV2, ondisk.KeyInodeV3:
		return w.inodeDoc(kv)
	case ondisk.KeyInodeGeneration:
		g, err := ondisk.DecodeInodeGeneration(kv.Val)
		return doc{"generation": g}, err
	case ondisk.KeyDirent:
		d, err := ondisk.DecodeDirent(kv)
		if err != nil {
			return nil, err
		}
		name, nameHex := textDoc(d.Name)
		cf, _ := textDoc(d.CfName)
		return DirentDoc{name, nameHex, cf, fileType(d.Type), d.Inum, d.ChildSubvol, d.ParentSubvol, d.Casefold}, nil
	case ondisk.KeyXattr:
		return xattrDoc(kv)
	case ondisk.KeyAlloc, ondisk.KeyAllocV2, ondisk.KeyAllocV3, ondisk.KeyAllocV4:
		a, err := ondisk.DecodeAlloc(kv)
		d := AllocDoc{a.Gen, a.OldestGen, a.DataType.String(), a.JournalSeq, a.JournalSeqEmpty, a.NeedDiscard, a.NeedIncGen, a.DirtySectors,
			a.StripeSectors, a.CachedSectors, a.Stripe, a.IOTime[ondisk.IORead], a.IOTime[ondisk.IOWrite], 0}
		if m := w.member(devOf(kv.Pos)); m != nil {
			d.Fragmentation = a.FragmentationIndex(uint32(m.BucketSize))
		}
		return d, err
	case ondisk.KeyBucketGens:
		g, err := ondisk.DecodeBucketGens(kv.Val)
		gens := make([]int, len(g)) // a []uint8 would become base64
		for i, v := range g {
			gens[i] = int(v)
		}
		return doc{"gens": gens}, err
	case ondisk.KeyBackpointer:
		p, err := ondisk.DecodeBackpointer(kv.Val, w.version())
		return BackpointerDoc{w.btree(uint32(p.Btree)), p.Level, p.DataType.String(), ondisk.BackpointerSector(kv.Pos, w.bpShift()), p.BucketOffset,
			p.BucketGen, p.BucketLen, p.Flags, posDoc(p.Pos)}, err
	case ondisk.KeyStripe:
		s, err := ondisk.DecodeStripe(kv.Val)
		if err != nil {
			return nil, err
		}
		d := StripeDoc{Algorithm: s.Algorithm, Sectors: s.Sectors, NrData: s.NrData(), NrRedundant: s.NrRedundant, CsumType: s.CsumType.String(),
			CsumSectors: 1 << s.CsumGranularityBits, NeedsReconcile: s.NeedsReconcile, LiveSectors: s.Live, DiskLabel: w.label(s.DiskLabel)}
		for _, p := range s.Ptrs {
			d.Ptrs = append(d.Ptrs, w.ptrDoc(p))
		}
		return d, nil
	case ondisk.KeyAccounting:
		return w.accountingDoc(kv)
	case ondisk.KeyQuota:
		q, err := ondisk.DecodeQuota(kv.Val)
		limits := func(l ondisk.QuotaLimits) doc { return doc{"hardlimit": l.Hard, "softlimit": l.Soft} }
		return doc{"type": quotaType(kv.Pos.Inode), "space": limits(q.Space), "inodes": limits(q.Inodes)}, err
	case ondisk.KeySubvolume:
		s, err := ondisk.DecodeSubvolume(kv.Val)
		return doc{"flags": s.Flags, "snapshot": s.Snapshot, "root": s.Inode, "creation_parent": s.CreationParent, "fs_path_parent": s.FSPathParent,
			"otime": w.time(s.Otime), "state": subvolState(s.LiveState()), "read_only": s.ReadOnly(), "is_snapshot": s.Flags&ondisk.SubvolSnap != 0}, err
	case ondisk.KeySnapshot:
		s, err := ondisk.DecodeSnapshot(kv.Val)
		return doc{"flags": s.Flags, "parent": s.Parent, "children": s.Children, "subvol": s.Subvol, "tree": s.Tree, "depth": s.Depth, "skiplist": s.Skip,
			"btime": w.time(s.Btime), "state": snapshotState(s.LiveState())}, err
	case ondisk.KeySnapshotTree:
		t, err := ondisk.DecodeSnapshotTree(kv.Val)
		return doc{"master_subvol": t.MasterSubvol, "root_snapshot": t.RootSnapshot}, err
	case ondisk.KeyLoggedOpTruncate:
		o, err := ondisk.DecodeLoggedOpTruncate(kv.Val)
		return doc{"subvol": o.Subvol, "inum": o.Inum, "new_i_size": o.NewSize}, err
	case ondisk.KeyLoggedOpFinsert:
		o, err := ondisk.DecodeLoggedOpFinsert(kv.Val)
		return doc{"state": o.State, "subvol": o.Subvol, "inum": o.Inum, "dst_offset": int64(o.DstOffset), "src_offset": o.SrcOffset, "pos": o.Pos}, err
	case ondisk.KeyLoggedOpStripe:
		o, err := ondisk.DecodeLoggedOpStripe(kv.Val)
		return doc{"old_idx": o.OldIdx, "new_idx": o.NewIdx, "old_blocks_nr": o.OldBlocksNr, "old_block_map": hex.EncodeToString(o.OldBlockMap[:])}, err
	case ondisk.KeyInodeAllocCursor:
		c, err := ondisk.DecodeInodeAllocCursor(kv.Val)
		lo, hi := c.Range(kv.Pos.Offset)
		return doc{"bits": c.Bits, "generation": c.Gen, "idx": c.Idx, "min": lo, "max": hi}, err
	case ondisk.KeyCookie:
		n, err := ondisk.DecodeCookie(kv.Val)
		return doc{"cookie": n}, err
	case ondisk.KeyLRU:
		n, err := ondisk.DecodeCookie(kv.Val)
		return doc{"idx": n}, err
	case ondisk.KeyError:
		return doc{"reason": ondisk.DecodeErrorKey(kv.Val).String()}, nil
	case ondisk.KeyDamage:
		d, err := ondisk.DecodeDamage(kv.Val)
		var l []doc
		for _, e := range d {
			l = append(l, doc{"error": e.ID.String(), "count": e.Count, "first": e.First, "last": e.Last})
		}
		return doc{"entries": l}, err
	}
	return doc{"raw": hex.EncodeToString(kv.Val)}, nil
}

// doc is a small document; encoding/json sorts its keys.
type doc map[string]any

// textDoc gives bytes as a string, and in hex too if they are no UTF-8.
func textDoc(b []byte) (text, hexa string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return string([]rune(string(b))), hex.EncodeToString(b)
}

// time prints a stored time, or nothing when the superblock is not known.
func (w *w) time(t int64) string {
	if w.Super == nil {
		return ""
	}
	sec, nsec := ondisk.TimeToUnix(t, w.Super.TimeBaseLo, w.Super.TimePrecision)
	return time.Unix(sec, int64(nsec)).UTC().Format(time.RFC3339Nano)
}

func (w *w) extentDoc(val []byte) (ExtentDoc, error) {
	x := ExtentDoc{Durability: w.extentDurability(val), Entries: []EntryDoc{}}
	err := ondisk.ExtentEntries(val, w.sizes, func(e ondisk.ExtentEntry) bool {
		switch e.Type {
		case ondisk.XEPtr:
			p := w.ptrDoc(e.Ptr)
			x.Entries = append(x.Entries, EntryDoc{Ptr: &p})
		case ondisk.XECrc32, ondisk.XECrc64, ondisk.XECrc128:
			c := e.Crc
			x.Entries = append(x.Entries, EntryDoc{Crc: &CrcDoc{int(c.Kind), c.CompressedSize, c.UncompressedSize, c.Offset, c.Nonce,
				c.CsumType.String(), c.Compression.String(), hex.EncodeToString(c.Csum.Append(nil)[:c.CsumType.Bytes()])}})
		case ondisk.XEStripePtr:
			x.Entries = append(x.Entries, EntryDoc{StripePtr: &StripePtrDoc{e.Stripe.Index, e.Stripe.Block, e.Stripe.Redundancy}})
		case ondisk.XERebalance:
			r := ondisk.DecodeRebalance(e.Raw[0])
			x.Rebalance = &RebalanceDoc{w.target(r.BackgroundTarget), compressionOpt(r.BackgroundCompression)}
		case ondisk.XEFlags:
			x.Poisoned = e.Raw[0]>>7&1 != 0
		case ondisk.XEReconcile:
			r := ondisk.DecodeReconcile(e.Raw[0])
			x.Reconcile = &ReconcileDoc{nameList(uint64(r.Need), reconcileNames[:]), r.Hipri, r.Pending, r.PtrsMoving, nameList(uint64(r.FromInode), reconcileNames[:]),
				r.DataReplicas, checksumOpt(r.DataChecksum), r.ErasureCode, compressionOpt(r.BackgroundCompression), w.target(r.BackgroundTarget), w.target(r.PromoteTarget)}
		case ondisk.XEReconcileBp:
			x.ReconcileBp = e.Raw[0] >> 9
		default:
			x.UnknownTypes = append(x.UnknownTypes, int(e.Type))
		}
		return true
	})
	return x, err
}

func (w *w) ptrDoc(p ondisk.Ptr) PtrDoc {
	d := PtrDoc{Dev: p.Dev, Sector: p.Offset, Gen: p.Gen, Cached: p.Cached, Unwritten: p.Unwritten}
	if m := w.member(uint32(p.Dev)); m != nil {
		b, o := p.Offset/uint64(m.BucketSize), p.Offset%uint64(m.BucketSize)
		d.Bucket, d.BucketOffset = &b, &o
		d.Stale = w.Stale != nil && w.Stale(p)
	}
	return d
}

// nameList gives the names of the bits that are set.
func nameList(v uint64, names []string) []string {
	l := []string{}
	for i, n := range names {
		if v>>i&1 != 0 {
			l = append(l, n)
		}
	}
	return l
}

func (w *w) inodeDoc(kv ondisk.KV) (any, error) {
	i, err := ondisk.DecodeInode(kv)
	d := InodeDoc{JournalSeq: i.JournalSeq, HashSeed: i.HashSeed, HashType: hashType(i.StrHash), Mode: i.Mode, FileType: fileType(uint8(i.Mode >> 12)),
		Flags: nameList(i.Flags, inodeFlagNames), Size: i.Size, Sectors: i.Sectors, Links: i.Links(), Times: map[string]string{}, Fields: map[string]uint64{"bi_version": i.Version}}
	for n, f := range inodeFields(&i, false) {
		if n < 4 {
			d.Times[f.name[len("bi_"):]] = w.time(int64(f.v))
			continue
		}
		d.Fields[f.name] = f.v
	}
	return d, err
}

func xattrDoc(kv ondisk.KV) (any, error) {
	x, err := ondisk.DecodeXattr(kv)
	if err != nil {
		return nil, err
	}
	d := XattrDoc{Type: x.Type, Value: hex.EncodeToString(x.Value)}
	d.Name, d.NameHex = textDoc([]byte(x.FullName()))
	if x.Type == ondisk.XattrACLAccess || x.Type == ondisk.XattrACLDefault {
		var a []ondisk.ACLEntry
		a, err = ondisk.DecodeACL(x.Value)
		for _, e := range a {
			d.ACL = append(d.ACL, ACLDoc{e.Tag.String(), e.ID, e.Perm})
		}
	}
	return d, err
}

func (w *w) accountingDoc(kv ondisk.KV) (any, error) {
	a, err := ondisk.DecodeAccountingPos(kv.Pos, ondisk.AccountingFormOf(w.version()))
	d := AccountingDoc{Type: a.Type.String(), Counters: []int64{}}
	switch a.Type {
	case ondisk.AccPersistentReserved:
		d.NrReplicas = a.NrReplicas
	case ondisk.AccReplicas:
		d.DataType, d.NrRequired = a.DataType.String(), &a.NrRequired
		for _, dev := range a.Devs() {
			d.Devs = append(d.Devs, int(dev))
		}
	case ondisk.AccDevDataType:
		d.DataType, d.Dev = a.DataType.String(), &a.Dev
	case ondisk.AccCompression:
		d.Compression = a.Compression.String()
	case ondisk.AccSnapshot:
		d.Snapshot = &a.Snapshot
		if w.version() >= ondisk.Version1_39 {
			d.Btree = w.btree(a.Btree)
		}
	case ondisk.AccBtree:
		d.Btree = w.btree(a.Btree)
	case ondisk.AccInum:
		d.Inode = &a.Inode
	case ondisk.AccReconcileWork:
		d.Kind = reconcileWork(a.Kind)
	case ondisk.AccDevLeaving:
		d.Dev = &a.Dev
	}
	for v := kv.Val; len(v) >= 8; v = v[8:] {
		d.Counters = append(d.Counters, le64(v))
	}
	return d, err
}
