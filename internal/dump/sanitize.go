package dump

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/gobcachefs/gobcachefs/internal/btree"
	"github.com/gobcachefs/gobcachefs/internal/crypt"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

// edit changes the value of a key in place to what the options ask for. level is
// that of the node the key stands in.
func (d *Dump) edit(kv ondisk.KV) {
	if d.o.SingleReplica && (kv.Type == ondisk.KeyBtreePtr || kv.Type == ondisk.KeyBtreePtrV2) {
		d.redirect(kv)
	}
	if d.o.Sanitize == SanitizeNothing {
		return
	}
	switch kv.Type {
	case ondisk.KeyInlineData:
		clear(kv.Val)
	case ondisk.KeyIndirectInlineData:
		clear(kv.Val[min(8, len(kv.Val)):]) // behind the reference count
	case ondisk.KeyXattr:
		x, err := ondisk.DecodeXattr(kv)
		if err != nil {
			clear(kv.Val)
			return
		}
		if x.Type != ondisk.XattrACLAccess && x.Type != ondisk.XattrACLDefault {
			clear(x.Value)
			d.rename(x.Name)
		}
	case ondisk.KeyDirent:
		if d.o.Sanitize < SanitizeNames {
			return
		}
		e, err := ondisk.DecodeDirent(kv)
		if err != nil {
			clear(kv.Val[min(9, len(kv.Val)):])
			return
		}
		d.rename(e.Name)
		d.rename(e.CfName)
	case ondisk.KeyDeleted, ondisk.KeyWhiteout:
		// These have no value; what stands there all the same says nothing.
		clear(kv.Val)
	}
}

// rename replaces a name by one of the same length, the same for the same name in
// all of this dump.
func (d *Dump) rename(name []byte) {
	if d.o.Sanitize < SanitizeNames {
		return
	}
	h := hmac.New(sha256.New, d.key[:])
	h.Write(name)
	sum := h.Sum(nil)
	for i := range name {
		if i > 0 && i%len(sum) == 0 {
			next := sha256.Sum256(sum)
			sum = next[:]
		}
		name[i] = 'a' + sum[i%len(sum)]%26
	}
}

// redirect makes all pointers but the one whose copy was taken point to no member.
func (d *Dump) redirect(kv ondisk.KV) {
	p, err := ondisk.DecodeBtreePtr(kv)
	if err != nil {
		return
	}
	keep := d.copies(&p)
	if len(keep) == 0 {
		return
	}
	val := kv.Val
	if p.V2 {
		val = val[40:]
	}
	off := 0
	_ = ondisk.ExtentEntries(val, nil, func(e ondisk.ExtentEntry) bool {
		n := len(e.Append(nil))
		if e.Type == ondisk.XEPtr && e.Ptr != keep[0] {
			e.Ptr.Dev = ondisk.InvalidDev
			copy(val[off:], e.Append(nil))
		}
		off += n
		return true
	})
}

// nodeContent gives a node with its keys edited. Records that are damaged are
// left out when something is to be hidden.
func (d *Dump) nodeContent(p *piece) ([]byte, error) {
	raw, err := btree.ReadRaw(d.set, d.state.Blacklist, p.node, p.ptr)
	if err != nil {
		return nil, err
	}
	var drop []btree.RawRecord
	for i := range raw.Records {
		r := &raw.Records[i]
		err := r.Err
		if err == nil {
			end := r.KeysOff
			err = raw.Keys(r, func(kv ondisk.KV, val, size int, _ bool) bool {
				end = val + len(kv.Val)
				d.edit(kv)
				return true
			})
			if err != nil && d.o.Sanitize != SanitizeNothing {
				clear(raw.Buf[end:r.End]) // keys that cannot be told apart
			}
		} else if d.o.Sanitize != SanitizeNothing {
			drop = append(drop, *r)
		}
	}
	if err := raw.Seal(d.set); err != nil {
		return nil, err
	}
	for _, r := range drop {
		clear(raw.Buf[r.Off:r.Next])
		d.o.Warn(fmt.Errorf("damaged record left out: %w", r.Err))
	}
	// Between and behind the records there may be anything.
	if d.o.Sanitize != SanitizeNothing {
		at := 0
		for _, r := range raw.Records {
			clear(raw.Buf[at:r.Off])
			clear(raw.Buf[r.End:r.Next])
			at = r.Next
		}
		clear(raw.Buf[at:])
	}
	return raw.Buf[:min(p.len, int64(len(raw.Buf)))], nil
}

// superContent gives a superblock with the roots in its clean section edited.
func (d *Dump) superContent(b []byte) ([]byte, error) {
	if !d.o.SingleReplica || !ondisk.HasSuperMagic(b) {
		return b, nil
	}
	sb, err := ondisk.DecodeSuperblock(b)
	if err != nil {
		return b, nil // as it is: a bad copy
	}
	c, err := sb.CleanSection()
	if err != nil || c == nil {
		return b, nil
	}
	d.editItems(c.Entries)
	out := sb.Append(nil)
	return append(out, make([]byte, len(b)-len(out))...), nil
}

// editItems edits the keys of sub-entries in place.
func (d *Dump) editItems(payload []byte) {
	at := 0
	_ = ondisk.JsetEntries(payload, func(it ondisk.JsetEntry) bool {
		at = it.Off + 8 + len(it.Data)
		switch {
		case it.Type.HasKeys():
			bad := false
			it.Keys(func(kv ondisk.KV) bool { d.edit(kv); return true }, func(error) { bad = true })
			if bad && d.o.Sanitize != SanitizeNothing {
				clear(it.Data)
			}
		case it.Type == ondisk.EntryLog && it.Level != 0 && d.o.Sanitize == SanitizeNames:
			// A message may name files; what starts a transaction does not.
			for i, c := range it.Data {
				if c != 0 {
					it.Data[i] = 'x'
				}
			}
		}
		return true
	})
	if d.o.Sanitize != SanitizeNothing {
		clear(payload[min(at, len(payload)):])
	}
}

// journalContent edits the entries of a journal bucket, or of a part of it. When
// something is to be hidden, what is no good entry is left out.
func (d *Dump) journalContent(b []byte) ([]byte, error) {
	if d.o.Sanitize == SanitizeNothing && !d.o.SingleReplica {
		return b, nil
	}
	out := b
	if d.o.Sanitize != SanitizeNothing {
		out = make([]byte, len(b))
	}
	magic := ondisk.JsetMagic(d.set.SB.UUID)
	block := max(1, int(d.set.SB.BlockSize)) * 512
	for pos := 0; pos+ondisk.JsetHeaderSize <= len(b); {
		j, _ := ondisk.DecodeJset(b[pos:])
		if j.Magic != magic || j.Bytes() > int64(len(b)-pos) {
			pos += block
			continue
		}
		e := slices.Clone(b[pos : pos+int(j.Bytes())])
		t, nonce := j.CsumType(), crypt.JournalNonce(j.Seq)
		sum, err := d.set.Sum(t, nonce, e[16:])
		if err != nil || sum != j.Csum {
			pos += block
			continue
		}
		d.set.Decrypt(t, nonce, e[ondisk.JsetCryptStart:])
		d.editItems(e[ondisk.JsetHeaderSize:])
		d.set.Decrypt(t, nonce, e[ondisk.JsetCryptStart:]) // the same as encrypting
		if sum, err = d.set.Sum(t, nonce, e[16:]); err != nil {
			return nil, err
		}
		copy(e, sum.Append(nil))
		copy(out[pos:], e)
		pos += (len(e) + block - 1) / block * block
	}
	return out, nil
}
