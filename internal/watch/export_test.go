package watch

// Queries are the questions of the gauges, by name.
func Queries() map[string]string {
	all := map[string]string{}
	for _, g := range gauges {
		all[g.name] = g.query
	}
	return all
}
