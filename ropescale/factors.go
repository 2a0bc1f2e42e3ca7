package ropescale

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/longrope/longrope/ropescale/jsontext"
)

// maxFactorsFile bounds what the readers take in: the largest real ladder is a few kilobytes.
const maxFactorsFile = 16 << 20

// ReadFactors reads a factors.json and validates it. Fields that this version does not know are
// kept in Extra and written back by WriteFactors. A rung without start_window has 0, one without
// attention_factor has LongRoPEAttentionFactor for its length (1 up to the original context
// length).
func ReadFactors(r io.Reader) (*Ladder, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFactorsFile+1))
	if err != nil {
		return nil, fmt.Errorf("factors: %w", err)
	}
	if len(b) > maxFactorsFile {
		return nil, fmt.Errorf("factors: more than %d bytes; this is not a factors file",
			maxFactorsFile)
	}
	l := new(Ladder)
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // some editors put one there
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("factors: %w", describe(b, jsontext.Plain(err)))
	}
	if err := jsontext.NoKeyTwice(b); err != nil {
		return nil, fmt.Errorf("factors: %w", err)
	}
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("factors: %w", err)
	}
	if len(l.Rungs) == 0 {
		return nil, errors.New(`factors: "rungs" is missing or empty; give at least one rung`)
	}
	return l, nil
}

// describe adds the line to a syntax error.
func describe(b []byte, err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		line := 1 + bytes.Count(b[:min(int(syntax.Offset), len(b))], []byte("\n"))
		return fmt.Errorf("not json: line %d: %w", line, err)
	}
	return err
}

// WriteFactors writes l as a factors.json, one factor list a line, with the fields that ReadFactors
// did not know.
func (l *Ladder) WriteFactors(w io.Writer) error {
	if err := l.Validate(); err != nil {
		return err
	}
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("factors: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("factors: %w", err)
	}
	_, err = w.Write(append(joinNumbers(out.Bytes()), '\n'))
	return err
}

// joinNumbers puts arrays of numbers, which json.Indent spreads over a line each, back on one line.
// It looks only at lines, and a JSON string holds no raw newline, so it cannot touch a string's
// content.
func joinNumbers(b []byte) []byte {
	var out []byte
	lines := bytes.Split(b, []byte("\n"))
	for i, line := range lines {
		if i > 0 {
			prev, cur := bytes.TrimSpace(lines[i-1]), bytes.TrimSpace(line)
			switch {
			case isNumber(cur) && bytes.HasSuffix(prev, []byte("[")), isNumber(prev) &&
				cur[0] == ']':
				line = cur
			case isNumber(cur) && isNumber(prev):
				line = append([]byte(" "), cur...)
			default:
				out = append(out, '\n')
			}
		}
		out = append(out, line...)
	}
	return out
}

func isNumber(line []byte) bool {
	return len(line) > 0 && (line[0] == '-' || line[0] >= '0' && line[0] <= '9')
}

// The plain types have the fields and tags but not the methods, so that encoding/json does the
// known part.
type (
	plainLadder Ladder
	plainRung   Rung
	plainSource Source
)

var (
	ladderKeys = []string{
		"version", "original_context_length", "rope_dimension_count", "base",
		"rungs", "source",
	}
	rungKeys   = []string{"length", "start_window", "attention_factor", "factors"}
	sourceKeys = []string{
		"model_digest", "method", "algorithm", "seed", "texts", "measure",
		"fitness", "trials", "tokens",
	}
)

// RungKeys are the keys of a rung in factors.json.
func RungKeys() []string { return slices.Clone(rungKeys) }

// MarshalJSON writes the known fields in their order, then the unknown ones sorted.
func (l Ladder) MarshalJSON() ([]byte, error) {
	if l.Rungs == nil {
		l.Rungs = []Rung{}
	}
	return joinFields(plainLadder(l), l.Extra, ladderKeys)
}

// MarshalJSON writes the known fields in their order, then the unknown ones sorted.
func (g Rung) MarshalJSON() ([]byte, error) { return joinFields(plainRung(g), g.Extra, rungKeys) }

// MarshalJSON writes the known fields in their order, then the unknown ones sorted.
func (s Source) MarshalJSON() ([]byte, error) {
	return joinFields(plainSource(s), s.Extra,
		sourceKeys)
}

// UnmarshalJSON reads factors.json's object and sets the defaults that depend on the original
// context length. It does not validate.
func (l *Ladder) UnmarshalJSON(b []byte) error {
	*l = Ladder{}
	extra, err := splitFields(b, ladderKeys, (*plainLadder)(l))
	if err != nil {
		return err
	}
	l.Extra = extra
	if l.Base != nil && l.Base.AttentionFactor == unset {
		l.Base.AttentionFactor = 1
	}
	for i := range l.Rungs {
		if l.Rungs[i].AttentionFactor == unset {
			l.Rungs[i].AttentionFactor = LongRoPEAttentionFactor(l.Rungs[i].Length,
				l.OriginalContextLength)
		}
	}
	return nil
}

// unset marks an attention factor that the file does not give; no validated ladder has it, since it
// is negative.
const unset = -0x1p-1000

// UnmarshalJSON reads one rung. An attention_factor that is absent takes its default in the ladder,
// which knows L; a rung read on its own gets a value that Validate refuses.
func (g *Rung) UnmarshalJSON(b []byte) error {
	*g = Rung{AttentionFactor: unset}
	extra, err := splitFields(b, rungKeys, (*plainRung)(g))
	g.Extra = extra
	return err
}

// UnmarshalJSON reads the provenance.
func (s *Source) UnmarshalJSON(b []byte) error {
	*s = Source{}
	extra, err := splitFields(b, sourceKeys, (*plainSource)(s))
	s.Extra = extra
	return err
}

// splitFields decodes the known keys of object b into v and returns the others. Keys match exactly:
// encoding/json would take "Version" for "version" and so lose an unknown field.
func splitFields(b []byte, known []string, v any) (map[string]json.RawMessage, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, err
	}
	mine := make(map[string]json.RawMessage, len(known))
	for _, k := range known {
		if raw, ok := all[k]; ok {
			if !bytes.Equal(raw, []byte("null")) { // null is absence
				mine[k] = raw
			}
			delete(all, k)
		}
	}
	obj, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(obj, v); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// joinFields is the inverse of splitFields. An extra key that collides with a known one is dropped.
func joinFields(v any, extra map[string]json.RawMessage, known []string) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(extra) == 0 {
		return b, err
	}
	rest := make(map[string]json.RawMessage, len(extra))
	for k, raw := range extra {
		rest[k] = raw
	}
	for _, k := range known {
		delete(rest, k)
	}
	e, err := json.Marshal(rest) // sorts the keys
	if err != nil || len(rest) == 0 {
		return b, err
	}
	if len(b) == len("{}") {
		return e, nil
	}
	return append(append(b[:len(b)-1], ','), e[1:]...), nil
}

// ReadFactorsCSV reads one rung's factors from a CSV file as the authors publish it (one line of
// d/2 numbers, or one such line per layer, all alike) or as their search writes it (one number a
// line). Lines that differ are an error: they would be factors per layer, which no rung has. The
// file holds neither length nor attention factor.
func ReadFactorsCSV(r io.Reader) ([]float64, error) {
	var rows [][]float64
	size := 0
	sc := bufio.NewScanner(io.LimitReader(r, maxFactorsFile))
	sc.Buffer(nil, 1<<20)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(sc.Text(), "\ufeff"))
		if size += len(sc.Bytes()) + 1; size >= maxFactorsFile {
			return nil, fmt.Errorf("factors csv: more than %d bytes; this is not a factors file",
				maxFactorsFile)
		}
		if line == "" {
			continue
		}
		var row []float64
		for i, field := range strings.Split(strings.TrimSuffix(line, ","), ",") {
			f, err := strconv.ParseFloat(strings.TrimSpace(field), 64)
			if err != nil {
				return nil, fmt.Errorf("factors csv: line %d: field %d is %.20q, want a number", n,
					i+1, field)
			}
			if !Usable(f) {
				return nil, fmt.Errorf("factors csv: line %d: field %d is %g, want a positive "+
					"finite number", n, i+1, f)
			}
			row = append(row, f)
		}
		if len(rows) > 0 && len(row) != len(rows[0]) {
			return nil, fmt.Errorf("factors csv: line %d has %d numbers, line 1 has %d", n,
				len(row), len(rows[0]))
		}
		if len(rows) > 0 && len(row) > 1 {
			for i, f := range row {
				if f != rows[0][i] {
					return nil, fmt.Errorf("factors csv: line %d differs from line 1 at number "+
						"%d; factors per layer are not supported", n, i+1)
				}
			}
		}
		if len(rows) == 0 || len(row) == 1 {
			rows = append(rows, row)
		}
		if len(rows) > maxDims/2 || len(row) > maxDims/2 {
			return nil, fmt.Errorf("factors csv: more than %d numbers; this is not a factors file",
				maxDims/2)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("factors csv: %w", err)
	}
	if len(rows) == 0 {
		return nil, errors.New("factors csv: no numbers")
	}
	var factors []float64
	for _, row := range rows { // one row, or a column of single numbers
		factors = append(factors, row...)
	}
	return factors, nil
}
