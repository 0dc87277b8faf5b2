package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gobcachefs/gobcachefs"
	"github.com/gobcachefs/gobcachefs/block"
	"github.com/gobcachefs/gobcachefs/ondisk"
)

func init() { commands = append(commands, newProbeCmd) }

// probeDoc is what a device is, for JSON.
type probeDoc struct {
	Path      string    `json:"path"`
	Type      *string   `json:"type"` // null: not bcachefs
	UUID      string    `json:"uuid,omitempty"`
	UUIDSub   string    `json:"uuid_sub,omitempty"`
	Label     string    `json:"label,omitempty"`
	LabelSub  string    `json:"label_sub,omitempty"`
	Version   string    `json:"version,omitempty"`
	BlockSize int       `json:"block_size,omitempty"`
	Index     *int      `json:"device_index,omitempty"`
	Devices   int       `json:"devices,omitempty"`
	Encrypted *bool     `json:"encrypted,omitempty"`
	Clean     *bool     `json:"clean,omitempty"`
	Seq       uint64    `json:"seq,omitempty"`
	Copies    []copyDoc `json:"copies,omitempty"`
	Error     string    `json:"error,omitempty"` // says what else it is
}

func newProbeCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe DEVICE...",
		Short: "Say whether a device or image is bcachefs, and which volume it is of",
		Long: `Say whether a device or image is bcachefs, and which volume it is of.

The output is NAME=VALUE lines like those of blkid -o export, an empty line
between devices. On something that is not bcachefs it says what it is, and exits
with code 1.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageErr("DEVICE is missing")
			}
			f := &findings{a: a, cmd: "probe"}
			docs := []probeDoc{}
			n := 0
			err := superDevices(a.ctx, args, func(name string, r block.Reader, err error) error {
				d := probeDoc{Path: name}
				var sb *ondisk.Superblock
				if err == nil {
					var copies []bcachefs.SuperblockCopy
					sb, copies, err = bcachefs.ReadSuperblock(a.ctx, r, 0)
					d.Copies = copyDocs(copies)
				}
				if err != nil {
					f.add(err)
					d.Error = errText(err)
					docs = append(docs, d)
					return a.ctx.Err()
				}
				d.fill(sb)
				docs = append(docs, d)
				if a.json {
					return nil
				}
				if n++; n > 1 {
					fmt.Fprintln(a.Out)
				}
				return d.print(a.Out)
			})
			if err != nil {
				return err
			}
			if a.json {
				if err := a.writeJSON(struct {
					Schema  int        `json:"schema"`
					Devices []probeDoc `json:"devices"`
				}{1, docs}); err != nil {
					return err
				}
			}
			return f.err()
		},
	}
	a.jsonFlag(cmd)
	return cmd
}

func (d *probeDoc) fill(sb *ondisk.Superblock) {
	t, idx, enc, clean := "bcachefs", int(sb.DevIdx), sb.Encrypted(), sb.Clean()
	d.Type, d.Index, d.Encrypted, d.Clean = &t, &idx, &enc, &clean
	d.UUID, d.Label, d.Version, d.Seq = sb.UserUUID.String(), sb.Label, sb.Version.String(), sb.Seq
	d.BlockSize = int(sb.BlockSize) * 512
	ms, _ := sb.Members()
	for i := range ms {
		if ms[i].Exists() {
			d.Devices++
		}
	}
	if idx < len(ms) {
		d.UUIDSub = ms[idx].UUID.String()
		if g := ms[idx].Group(); g >= 0 {
			d.LabelSub = sb.GroupPath(g)
		}
	}
}

func (d *probeDoc) print(w io.Writer) error {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(name + "=" + exportValue(value) + "\n")
		}
	}
	line("DEVNAME", d.Path)
	line("TYPE", *d.Type)
	line("UUID", d.UUID)
	line("UUID_SUB", d.UUIDSub)
	line("LABEL", d.Label)
	line("LABEL_SUB", d.LabelSub)
	line("VERSION", d.Version)
	line("BLOCK_SIZE", strconv.Itoa(d.BlockSize))
	line("DEVICE_INDEX", strconv.Itoa(*d.Index))
	line("DEVICES", strconv.Itoa(d.Devices))
	line("ENCRYPTED", bit(*d.Encrypted))
	line("CLEAN", bit(*d.Clean))
	_, err := io.WriteString(w, b.String())
	return err
}

func bit(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// exportValue escapes what a shell would take for more than text; bytes that do
// not print become \xNN.
func exportValue(s string) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\x%02x`, c)
		case strings.IndexByte("\"'\\`$ &|;<>()*?[]#~!{}", c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}
