package wal

import (
	"errors"
	"fmt"
	"io"
)

// CheckSystem reads the header of a segment and returns an error if the segment is not of the cluster that
// the folder's Format names.
func (d *Dir) CheckSystem(s SegmentFile) (err error) {
	f, err := d.OpenSegment(s.Timeline, s.Segno)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	header := make([]byte, longPageHeaderSize)
	if _, err := io.ReadFull(f, header); err != nil {
		return fmt.Errorf("read segment %s: %w", s.Name, err)
	}
	start := d.Format.SegmentSize.Start(s.Segno)
	if _, err := parsePageHeader(header, start, d.Format.SegmentSize, d.Format.SystemID, d.Format.Version); err != nil {
		return fmt.Errorf("segment %s: %w", s.Name, err)
	}
	return nil
}
