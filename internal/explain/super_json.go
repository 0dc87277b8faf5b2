package explain

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/gobcachefs/gobcachefs/ondisk"
)

// SuperDoc is a superblock for JSON. Keys are stable: new ones may be added, and
// Schema is raised when one changes its meaning. Sizes are in bytes, times are
// RFC 3339 in UTC, each with the seconds since 1970 beside it; a time that was
// never set is left out. Names are those of 1.39.
type SuperDoc struct {
	Schema               int    `json:"schema"`
	ExternalUUID         string `json:"external_uuid"`
	InternalUUID         string `json:"internal_uuid"`
	Magic                string `json:"magic"`
	DeviceIndex          int    `json:"device_index"`
	Label                string `json:"label"`
	Version              string `json:"version"`
	VersionName          string `json:"version_name"`
	VersionMin           string `json:"version_min"`
	VersionUpgraded      string `json:"version_upgrade_complete"`
	VersionIncompat      string `json:"version_incompat,omitempty"`         // in use
	VersionIncompatLimit string `json:"version_incompat_allowed,omitempty"` // may be used
	Sector               uint64 `json:"sector"`                             // of this copy
	Seq                  uint64 `json:"seq"`
	Created              string `json:"created"`
	CreatedUnix          int64  `json:"created_unix"`
	TimePrecision        uint32 `json:"time_precision"` // nanoseconds
	LastWrite            string `json:"last_write,omitempty"`
	LastWriteUnix        uint64 `json:"last_write_unix,omitempty"`
	Size                 int    `json:"size"`
	MaxSize              uint64 `json:"max_size"`
	CsumType             string `json:"csum_type"`
	Csum                 string `json:"csum"` // the low word, in hex
	BlockSize            int    `json:"block_size"`
	BtreeNodeSize        int    `json:"btree_node_size"`
	Initialized          bool   `json:"initialized"`
	Clean                bool   `json:"clean"`
	HasErrors            bool   `json:"has_errors"`
	HasTopologyErrors    bool   `json:"has_topology_errors"`
	Encrypted            bool   `json:"encrypted"`
	MultiDevice          bool   `json:"multi_device"`
	ExtentBPShift        int    `json:"extent_bp_shift"`
	DeviceSlots          int    `json:"device_slots"`
	Devices              int    `json:"devices"` // slots that are in use

	Features []string       `json:"features"`
	Compat   []string       `json:"compat_features"`
	Flags    []string       `json:"flags"` // the seven words, in hex
	Options  map[string]any `json:"options"`
	Layout   LayoutDoc      `json:"layout"`
	Sections []SectionDoc   `json:"sections"`

	Members        []MemberDoc       `json:"members"`
	Crypt          *CryptDoc         `json:"crypt,omitempty"`
	Replicas       []ReplicasDoc     `json:"replicas,omitempty"`
	Quota          []SuperQuotaDoc   `json:"quota,omitempty"`
	Groups         []GroupDoc        `json:"disk_groups,omitempty"`
	CleanSection   *CleanDoc         `json:"clean_section,omitempty"`
	Journal        []JournalRangeDoc `json:"journal,omitempty"`
	Blacklist      []SeqRangeDoc     `json:"journal_seq_blacklist,omitempty"`
	Counters       map[string]uint64 `json:"counters,omitempty"`
	Errors         []ErrorCountDoc   `json:"errors,omitempty"` // both forms, merged
	Ext            *ExtDoc           `json:"ext,omitempty"`
	Downgrade      []DowngradeDoc    `json:"downgrade,omitempty"`
	RecoveryPasses []PassRunDoc      `json:"recovery_passes,omitempty"`
	ExtentTypeU64s []int             `json:"extent_type_u64s,omitempty"`

	// Problems says which sections do not decode, and why.
	Problems []string `json:"problems,omitempty"`
}

// LayoutDoc says where the copies are.
type LayoutDoc struct {
	MaxSize uint64   `json:"max_size"`
	Sectors []uint64 `json:"sectors"`
}

// SectionDoc is one section of the superblock.
type SectionDoc struct {
	Type uint32 `json:"type"`
	Name string `json:"name,omitempty"` // none for unknown types
	Size int    `json:"size"`           // with its header
}

// MemberDoc is one member that exists.
type MemberDoc struct {
	Index                 int               `json:"index"`
	UUID                  string            `json:"uuid"`
	Label                 string            `json:"label,omitempty"`
	State                 string            `json:"state"`
	Size                  uint64            `json:"size"`
	BucketSize            int               `json:"bucket_size"`
	FirstBucket           int               `json:"first_bucket"`
	Buckets               uint64            `json:"buckets"`
	Durability            int               `json:"durability"`
	Discard               bool              `json:"discard"`
	DataAllowed           []string          `json:"data_allowed"`
	HasData               []string          `json:"has_data"`
	Rotational            *bool             `json:"rotational,omitempty"` // not there: not known
	FreespaceInitialized  bool              `json:"freespace_initialized"`
	ResizeOnMount         bool              `json:"resize_on_mount"`
	InitProgress          int               `json:"init_progress,omitempty"`
	LastMount             string            `json:"last_mount,omitempty"`
	LastMountUnix         uint64            `json:"last_mount_unix,omitempty"`
	Seq                   uint64            `json:"seq"`
	Errors                map[string]uint64 `json:"errors"`
	ErrorsAtReset         map[string]uint64 `json:"errors_at_reset"`
	ErrorsReset           string            `json:"errors_reset,omitempty"`
	ErrorsResetUnix       uint64            `json:"errors_reset_unix,omitempty"`
	FlushErrors           uint64            `json:"flush_errors"`
	Iops                  map[string]uint32 `json:"iops"`
	BitmapBlockSize       uint64            `json:"btree_bitmap_block_size"` // bytes that a bit covers
	Bitmap                string            `json:"btree_bitmap"`            // in hex, the lowest bit is the first block
	LastJournalBucket     uint32            `json:"last_journal_bucket"`
	LastJournalBucketUsed uint32            `json:"last_journal_bucket_used"` // bytes
	DeviceName            string            `json:"device_name,omitempty"`
	DeviceModel           string            `json:"device_model,omitempty"`
	DeviceSerial          string            `json:"device_serial,omitempty"`
	FailureDomain         string            `json:"failure_domain,omitempty"`
}

// CryptDoc says how the key is derived. The key itself is left out.
type CryptDoc struct {
	KDF        int    `json:"kdf"`
	Passphrase bool   `json:"passphrase"`
	ScryptN    uint64 `json:"scrypt_n_log2"`
	ScryptR    uint64 `json:"scrypt_r_log2"`
	ScryptP    uint64 `json:"scrypt_p_log2"`
}

// ReplicasDoc is one entry of the replicas.
type ReplicasDoc struct {
	DataType string `json:"data_type"`
	Required int    `json:"required"`
	Devices  []int  `json:"devices"` // 255: removed
}

// SuperQuotaDoc are the settings of one type of quota.
type SuperQuotaDoc struct {
	Type  string        `json:"type"`
	Flags uint64        `json:"flags"`
	Space QuotaLimitDoc `json:"space"`
	Inode QuotaLimitDoc `json:"inodes"`
}

// QuotaLimitDoc are the limits of one counter.
type QuotaLimitDoc struct {
	TimeLimit uint32 `json:"time_limit"` // seconds
	WarnLimit uint32 `json:"warn_limit"`
}

// GroupDoc is one component of a label.
type GroupDoc struct {
	Index   int    `json:"index"`
	Name    string `json:"name"`
	Path    string `json:"path"`
	Parent  *int   `json:"parent,omitempty"` // not there: at the root
	Deleted bool   `json:"deleted,omitempty"`
}

// CleanDoc is what a clean shutdown left.
type CleanDoc struct {
	Flags      uint32         `json:"flags"`
	JournalSeq uint64         `json:"journal_seq"`
	Entries    []JsetEntryDoc `json:"entries"`
}

// JsetEntryDoc is a sub-entry of the journal. Keys or Words is set.
type JsetEntryDoc struct {
	Type  string   `json:"type"`
	Btree string   `json:"btree,omitempty"`
	Level int      `json:"level,omitempty"`
	Keys  []KeyDoc `json:"keys,omitempty"`
	Words []uint64 `json:"words,omitempty"`
	// What the words mean, for the types that clean sections have.
	Usage string  `json:"usage,omitempty"`
	Clock string  `json:"clock,omitempty"`
	Value *uint64 `json:"value,omitempty"`
	Text  string  `json:"text,omitempty"` // of log entries
}

// JournalRangeDoc is a run of journal buckets of this device, in ring order.
type JournalRangeDoc struct {
	Start uint64 `json:"start"`
	Nr    uint64 `json:"nr"`
}

// SeqRangeDoc is a range of journal sequence numbers; End is not in it.
type SeqRangeDoc struct {
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`
}

// ErrorCountDoc is a kind of inconsistency that was found.
type ErrorCountDoc struct {
	ID        int    `json:"id"`
	Name      string `json:"name"`
	Count     uint64 `json:"count"`
	First     string `json:"first,omitempty"`
	FirstUnix uint64 `json:"first_unix,omitempty"`
	Last      string `json:"last,omitempty"`
	LastUnix  uint64 `json:"last_unix,omitempty"`
}

// ExtDoc is the section ext.
type ExtDoc struct {
	PassesRequired     []string `json:"recovery_passes_required"`
	ErrorsSilent       []string `json:"errors_silent"`
	BtreesLostData     []string `json:"btrees_lost_data"`
	BtreesLostDataEver []string `json:"btrees_lost_data_ever"`
	BtreesClean        []string `json:"btrees_clean"`
}

// DowngradeDoc says what an older release must do.
type DowngradeDoc struct {
	Version     string   `json:"version"`
	VersionName string   `json:"version_name"`
	Passes      []string `json:"recovery_passes"`
	Errors      []string `json:"errors"`
}

// PassRunDoc says when a pass ran.
type PassRunDoc struct {
	Name        string `json:"name"`
	LastRun     string `json:"last_run,omitempty"`
	LastRunUnix uint64 `json:"last_run_unix,omitempty"`
	Runtime     uint32 `json:"last_runtime"` // seconds
	NoRatelimit bool   `json:"no_ratelimit,omitempty"`
}

// SuperJSON makes the document of a superblock. sb need not have passed
// Validate.
func SuperJSON(sb *ondisk.Superblock) SuperDoc {
	d := SuperDoc{
		Schema: 1, ExternalUUID: sb.UserUUID.String(), InternalUUID: sb.UUID.String(), Magic: sb.Magic.String(), DeviceIndex: int(sb.DevIdx), Label: validText(sb.Label),
		Version: sb.Version.String(), VersionName: sb.Version.Name(), VersionMin: sb.VersionMin.String(), VersionUpgraded: sb.VersionUpgradeComplete().String(),
		Sector: sb.Offset, Seq: sb.Seq, Created: rfc3339(sb.Created().Unix()), CreatedUnix: sb.Created().Unix(), TimePrecision: sb.TimePrecision,
		Size: sb.Bytes(), MaxSize: sb.Layout.Reserved() << 9, CsumType: sb.CsumType().String(), Csum: fmt.Sprintf("%016x", sb.Csum.Lo),
		BlockSize: int(sb.BlockSize) << 9, BtreeNodeSize: sb.NodeSectors() << 9,
		Initialized: sb.Initialized(), Clean: sb.Clean(), HasErrors: sb.HasErrors(), HasTopologyErrors: sb.HasTopologyErrors(), Encrypted: sb.Encrypted(),
		MultiDevice: sb.MultiDevice(), ExtentBPShift: sb.ExtentBPShift(), DeviceSlots: int(sb.NrDevices),
		Features: []string{}, Compat: []string{}, Options: map[string]any{}, Members: []MemberDoc{},
		Layout: LayoutDoc{MaxSize: sb.Layout.Reserved() << 9, Sectors: sb.Layout.Offsets},
	}
	d.LastWrite, d.LastWriteUnix = timeDoc(sb.WriteTime)
	if v := sb.VersionIncompat(); v != 0 {
		d.VersionIncompat = v.String()
	}
	if v := sb.VersionIncompatAllowed(); v != 0 {
		d.VersionIncompatLimit = v.String()
	}
	for _, f := range sb.FeatureBits() {
		d.Features = append(d.Features, f.String())
	}
	for _, c := range sb.CompatBits() {
		d.Compat = append(d.Compat, c.String())
	}
	for _, f := range sb.Flags {
		d.Flags = append(d.Flags, fmt.Sprintf("%016x", f))
	}
	for _, o := range ondisk.Options() {
		if o.Stored() && o.InVersion(sb.Version) {
			d.Options[o.Name] = optionDoc(o, o.Effective(sb), sb)
		}
	}
	for _, f := range sb.Fields {
		s := SectionDoc{Type: uint32(f.Type), Size: 8 + len(f.Data)}
		if f.Type < ondisk.NrSBFields {
			s.Name = f.Type.String()
		}
		d.Sections = append(d.Sections, s)
	}
	superSections(&d, sb)
	return d
}

// ShowSuperJSON writes the document of a superblock, indented.
func ShowSuperJSON(out io.Writer, sb *ondisk.Superblock) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(SuperJSON(sb))
}

func rfc3339(sec int64) string { return time.Unix(sec, 0).UTC().Format(time.RFC3339) }

// timeDoc gives both forms of a time, nothing for one that was never set.
func timeDoc(sec uint64) (string, uint64) {
	if sec == 0 {
		return "", 0
	}
	return rfc3339(int64(sec)), sec
}

// validText replaces what is no UTF-8, as JSON has no other text.
func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func optionDoc(o *ondisk.Option, v uint64, sb *ondisk.Superblock) any {
	switch o.Type {
	case ondisk.OptBool:
		return v != 0
	case ondisk.OptUint:
		return v // sizes are bytes
	}
	return validText(o.Format(v, sb.TargetString))
}

func superSections(d *SuperDoc, sb *ondisk.Superblock) {
	ok := func(err error) bool {
		if err != nil {
			d.Problems = append(d.Problems, err.Error())
		}
		return err == nil
	}
	groups, err := sb.DiskGroups()
	ok(err)
	path := func(i int) string {
		if i < 0 || i >= len(groups) {
			return ""
		}
		return validText(sb.GroupPath(i))
	}
	for i, g := range groups {
		doc := GroupDoc{Index: i, Name: validText(g.Label), Deleted: g.Deleted}
		if !g.Deleted {
			doc.Path = path(i)
		}
		if g.Parent >= 0 {
			doc.Parent = &g.Parent
		}
		d.Groups = append(d.Groups, doc)
	}
	replicas, err := sb.Replicas()
	ok(err)
	hasData := map[uint8]uint64{}
	for _, r := range replicas {
		doc := ReplicasDoc{DataType: r.DataType.String(), Required: r.Required, Devices: []int{}}
		for _, dev := range r.Devs {
			doc.Devices = append(doc.Devices, int(dev))
			hasData[dev] |= 1 << (r.DataType & 63)
		}
		d.Replicas = append(d.Replicas, doc)
	}
	members, err := sb.Members()
	ok(err)
	for i := range members {
		if m := &members[i]; m.Exists() {
			d.Devices++
			d.Members = append(d.Members, memberDoc(i, m, path(m.Group()), hasData[uint8(i)]))
		}
	}
	if c, err := sb.Crypt(); ok(err) && c != nil {
		n, r, p := c.ScryptParams()
		d.Crypt = &CryptDoc{KDF: c.KDF(), Passphrase: !c.Plain(), ScryptN: uint64(n), ScryptR: uint64(r), ScryptP: uint64(p)}
	}
	if q, err := sb.Quota(); ok(err) && q != nil {
		for i, n := range []string{"user", "group", "project"} {
			l := q[i].Limits
			d.Quota = append(d.Quota, SuperQuotaDoc{n, q[i].Flags, QuotaLimitDoc{l[0].TimeLimit, l[0].WarnLimit}, QuotaLimitDoc{l[1].TimeLimit, l[1].WarnLimit}})
		}
	}
	if c, err := sb.CleanSection(); ok(err) && c != nil {
		doc := CleanDoc{Flags: c.Flags, JournalSeq: c.JournalSeq, Entries: []JsetEntryDoc{}}
		env := NewEnv(sb, Style1_39)
		ok(ondisk.JsetEntries(c.Entries, func(e ondisk.JsetEntry) bool {
			if len(e.Data) > 0 {
				doc.Entries = append(doc.Entries, jsetEntryDoc(env, e))
			}
			return true
		}))
		d.CleanSection = &doc
	}
	ranges, err := sb.JournalRanges()
	ok(err)
	for _, r := range ranges {
		d.Journal = append(d.Journal, JournalRangeDoc(r))
	}
	blacklist, err := sb.Blacklist()
	ok(err)
	for _, r := range blacklist {
		d.Blacklist = append(d.Blacklist, SeqRangeDoc(r))
	}
	for i, v := range sb.Counters() {
		if d.Counters == nil {
			d.Counters = map[string]uint64{}
		}
		name := fmt.Sprintf("counter_%d", i)
		if i < ondisk.NrCounters {
			name = ondisk.Counter(i).String()
		}
		d.Counters[name] = v
	}
	counts, err := sb.Errors()
	ok(err)
	for _, e := range counts {
		doc := ErrorCountDoc{ID: int(e.ID), Name: e.ID.String(), Count: e.Count}
		doc.First, doc.FirstUnix = timeDoc(e.First)
		doc.Last, doc.LastUnix = timeDoc(e.Last)
		d.Errors = append(d.Errors, doc)
	}
	if e, err := sb.Ext(); ok(err) && e.Size > 0 {
		d.Ext = &ExtDoc{passDocs(e.Passes()), errorDocs(e.Silent()), btreeDocs(e.BtreesLostData), btreeDocs(e.BtreesLostDataEver), btreeDocs(e.BtreesClean)}
	}
	down, err := sb.Downgrade()
	ok(err)
	for _, e := range down {
		d.Downgrade = append(d.Downgrade, DowngradeDoc{e.Version.String(), e.Version.Name(), passDocs(e.PassList()), errorDocs(e.Errors)})
	}
	for i, r := range sb.RecoveryPasses() {
		if r == (ondisk.PassRun{}) || i >= ondisk.MaxRecoveryPasses {
			continue
		}
		doc := PassRunDoc{Name: ondisk.RecoveryPass(i).String(), Runtime: r.LastRuntime, NoRatelimit: r.Flags&1 != 0}
		doc.LastRun, doc.LastRunUnix = timeDoc(r.LastRun)
		d.RecoveryPasses = append(d.RecoveryPasses, doc)
	}
	for _, n := range sb.ExtentTypeU64s() {
		d.ExtentTypeU64s = append(d.ExtentTypeU64s, int(n))
	}
}

func memberDoc(i int, m *ondisk.Member, label string, hasData uint64) MemberDoc {
	errors := func(v [3]uint64) map[string]uint64 {
		return map[string]uint64{"read": v[0], "write": v[1], "checksum": v[2]}
	}
	d := MemberDoc{
		Index: i, UUID: m.UUID.String(), Label: label, State: m.State().String(), Size: m.Sectors() << 9, BucketSize: int(m.BucketSize) << 9,
		FirstBucket: int(m.FirstBucket), Buckets: m.NBuckets, Durability: m.Durability(), Discard: m.Discard(),
		DataAllowed: dataTypeDocs(uint64(m.DataAllowed())), HasData: dataTypeDocs(hasData),
		FreespaceInitialized: m.FreespaceInitialized(), ResizeOnMount: m.ResizeOnMount(), InitProgress: m.InitProgress(),
		Seq: m.Seq, Errors: errors(m.Errors), ErrorsAtReset: errors(m.ErrorsAtReset), FlushErrors: m.FlushErrors,
		Iops:              map[string]uint32{"seqread": m.Iops[0], "seqwrite": m.Iops[1], "randread": m.Iops[2], "randwrite": m.Iops[3]},
		BitmapBlockSize:   512 << min(m.BtreeBitmapShift, 54),
		Bitmap:            fmt.Sprintf("%016x", m.BtreeAllocatedBitmap),
		LastJournalBucket: m.LastJournalBucket, LastJournalBucketUsed: m.LastJournalBucketOffset << 9,
		DeviceName: validText(m.DeviceName), DeviceModel: validText(m.DeviceModel), DeviceSerial: validText(m.DeviceSerial), FailureDomain: validText(m.FailureDomain),
	}
	d.LastMount, d.LastMountUnix = timeDoc(m.LastMount)
	d.ErrorsReset, d.ErrorsResetUnix = timeDoc(m.ErrorsResetTime)
	if m.RotationalKnown() {
		r := m.Rotational()
		d.Rotational = &r
	}
	return d
}

func jsetEntryDoc(env *Env, e ondisk.JsetEntry) JsetEntryDoc {
	d := JsetEntryDoc{Type: e.Type.String()}
	if e.Type.HasKeys() {
		d.Btree, d.Level = e.Btree.String(), int(e.Level)
		e.Keys(func(kv ondisk.KV) bool {
			d.Keys = append(d.Keys, KeyJSON(env, e.Btree, int(e.Level), kv))
			return true
		}, func(err error) { d.Keys = append(d.Keys, KeyDoc{Btree: d.Btree, Level: d.Level, Error: err.Error()}) })
		return d
	}
	for b := e.Data; len(b) >= 8; b = b[8:] {
		d.Words = append(d.Words, binary.LittleEndian.Uint64(b))
	}
	switch {
	case e.Type == ondisk.EntryLog:
		text, _, _ := bytes.Cut(e.Data, []byte{0})
		d.Text, d.Words = strings.ToValidUTF8(string(text), "\ufffd"), nil
		d.Level = int(e.Level)
	case e.Type == ondisk.EntryUsage && len(d.Words) > 0:
		if names := []string{"reserved", "inodes", "key_version"}; int(e.Btree) < len(names) {
			d.Usage = names[e.Btree]
		}
		d.Value = &d.Words[0]
	case e.Type == ondisk.EntryClock && len(d.Words) > 1:
		d.Clock = []string{"read", "write"}[min(e.Data[0], 1)]
		d.Value = &d.Words[1]
	}
	return d
}

func dataTypeDocs(set uint64) []string {
	l := []string{}
	for t := ondisk.DataType(0); t < 64; t++ {
		if set>>t&1 != 0 {
			l = append(l, t.String())
		}
	}
	return l
}

func btreeDocs(set uint64) []string {
	l := []string{}
	for b := ondisk.BtreeID(0); b < 64; b++ {
		if set>>b&1 != 0 {
			l = append(l, b.String())
		}
	}
	return l
}

func passDocs(passes []ondisk.RecoveryPass) []string {
	l := []string{}
	for _, p := range passes {
		l = append(l, p.String())
	}
	return l
}

func errorDocs(ids []ondisk.ErrorID) []string {
	l := []string{}
	for _, id := range ids {
		l = append(l, id.String())
	}
	return l
}
