package evals

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/longrope/longrope/evals/label"
)

// WriteJSON writes a result of this package, indented, with a newline at its end. Struct order is
// field order and maps are not used, so equal results give equal bytes.
func WriteJSON(w io.Writer, result any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
}

// object is a JSON object with its members in order.
type object []member

// member of an object. Without a name, the members of the object value stand in its place.
type member struct {
	name  string
	value any
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for _, m := range o {
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		separator := byte(',')
		if b.Len() == 0 {
			separator = '{'
		}
		b.WriteByte(separator)
		if m.name == "" {
			b.Write(value[1 : len(value)-1])
			continue
		}
		name, err := marshal(m.name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// writeCSV writes a header and rows; cells are strings, integers or float64s.
func writeCSV(w io.Writer, header []string, rows [][]any) error {
	c := csv.NewWriter(w)
	if err := c.Write(header); err != nil {
		return err
	}
	record := make([]string, len(header))
	for _, row := range rows {
		for i, cell := range row {
			switch v := cell.(type) {
			case string:
				record[i] = v
			case int:
				record[i] = strconv.Itoa(v)
			case bool:
				record[i] = strconv.FormatBool(v)
			case float64:
				record[i] = label.Exact(v)
			case *float64:
				record[i] = ""
				if v != nil {
					record[i] = label.Exact(*v)
				}
			default:
				return fmt.Errorf("cannot write %T as csv", cell)
			}
		}
		if err := c.Write(record); err != nil {
			return err
		}
	}
	c.Flush()
	return c.Error()
}
