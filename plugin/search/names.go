package search

import "fmt"

// Names are what the user calls options, by the names of their fields: "--text" for "Texts". A
// field that is missing goes by its name.
type Names map[string]string

// Of is the user's name of a field.
func (n Names) Of(field string) string {
	if name, ok := n[field]; ok {
		return name
	}
	return field
}

// Wrong is an error that begins with the user's name of a field. The format continues it, as in
// ": it is empty".
func (n Names) Wrong(field, format string, args ...any) error {
	return fmt.Errorf("%s%w", n.Of(field), fmt.Errorf(format, args...))
}
