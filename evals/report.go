package evals

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
)

// WriteJSON writes a result of this package, indented, with a newline at its end. Struct order is field order and maps
// are not used, so equal results give equal bytes.
func WriteJSON(w io.Writer, result any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(result)
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
				record[i] = number(v)
			case *float64:
				record[i] = ""
				if v != nil {
					record[i] = number(*v)
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
