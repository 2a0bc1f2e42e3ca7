package study

import (
	"encoding/json"
	"fmt"
	"math"
)

// Losses are numbers of which some may be infinite, which JSON has no word for: there they are
// "inf".
type Losses []float64

// MarshalJSON writes +Inf as "inf".
func (l Losses) MarshalJSON() ([]byte, error) {
	values := make([]any, len(l))
	for i, x := range l {
		values[i] = x
		if math.IsInf(x, 1) {
			values[i] = "inf"
		}
	}
	return json.Marshal(values)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (l *Losses) UnmarshalJSON(b []byte) error {
	var values []any
	if err := json.Unmarshal(b, &values); err != nil {
		return err
	}
	*l = make(Losses, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case float64:
			(*l)[i] = v
		case string:
			if v != "inf" {
				return fmt.Errorf("a loss is %q", v)
			}
			(*l)[i] = math.Inf(1)
		default:
			return fmt.Errorf("a loss is %v", v)
		}
	}
	return nil
}
