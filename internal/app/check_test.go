package app

import "testing"

func TestATargetMaySayItsType(t *testing.T) {
	t.Parallel()
	types := []string{"dns", "http", "tcp", "heartbeat"}
	for given, want := range map[string][2]string{
		"https://shop.example/":    {"http", "https://shop.example/"},
		"http://shop.example/dns:": {"http", "http://shop.example/dns:"},
		"dns:shop.example":         {"dns", "shop.example"},
		"tcp:db.example:5432":      {"tcp", "db.example:5432"},
		"tcp:[2001:db8::1]:22":     {"tcp", "[2001:db8::1]:22"},
		"heartbeat:":               {"heartbeat", ""},
		"db.example:5432":          {"http", "db.example:5432"}, // which the type then refuses, with its mend
		"shop.example":             {"http", "shop.example"},
	} {
		if typ, target := splitType(given, types); [2]string{typ, target} != want {
			t.Errorf("%s: got %s of type %s, want %v", given, target, typ, want)
		}
	}
}
