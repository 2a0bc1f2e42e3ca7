package doctor

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/longrope/longrope/plugin/terminal"
)

// NewCommand is "doctor", to be added to "ollama longrope".
func NewCommand() *cobra.Command {
	var asJSON, child bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check this installation, the machine, the store and the server",
		Long: `Report which ollama is first in PATH, which backends load and whether they compute RoPE with
rows as the CPU does, devices and memory, the models of the store that carry factors, and
which server answers on the port. The exit status is 1 when there is a fault.`,
		Example: `  ollama longrope doctor
  ollama longrope doctor --json`,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := json.NewEncoder(cmd.OutOrStdout())
			if child {
				return out.Encode(examineBackends())
			}
			m, err := here()
			if err != nil {
				return err
			}
			r := m.examine(cmd.Context())
			if asJSON {
				out.SetIndent("", "  ")
				err = out.Encode(r)
			} else {
				_, err = fmt.Fprint(cmd.OutOrStdout(), terminal.Clean(r.Text()))
			}
			if n := r.Faults(); err == nil && n > 0 {
				err = fmt.Errorf("faults found: %d", n)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "Write the report to standard output as JSON")
	cmd.Flags().BoolVar(&child, childFlag, false, "")
	if err := cmd.Flags().MarkHidden(childFlag); err != nil {
		panic(err) // it is defined above
	}
	return cmd
}
