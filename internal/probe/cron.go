package probe

import (
	"errors"
	"strings"
	"time"
	_ "time/tzdata" // zones must have the same names in an image that has none

	"github.com/adhocore/gronx"
)

// cron is a schedule of wall-clock times in a zone.
type cron struct {
	expr string
	zone *time.Location
}

var errNever = errors.New("names no time that ever comes")

func parseCron(expr, zone string) (cron, error) {
	c := cron{expr: expr}
	if zone == "Local" { // that of whichever machine happens to check
		return c, errors.New("zone")
	}
	var err error
	if c.zone, err = time.LoadLocation(zone); err != nil {
		return c, errors.New("zone")
	}
	// Only the five fields of crontab: with a field of years that are over the library
	// searches without end.
	if len(strings.Fields(expr)) != 5 || !gronx.New().IsValid(expr) {
		return c, errors.New("expression")
	}
	if c.next(time.Now()).IsZero() {
		return c, errNever
	}
	return c, nil
}

// next is the first instant after t that the schedule names; the zero time if none
// ever comes.
//
// Ticks are found on the clock on the wall, which a change of the clock makes jump,
// so that a time of day comes once on each day: where the clock is set back and shows
// it twice, the second counts; where it is set forward over it, the instant at which
// it would have come. A job may run at the first of the two as well, see its deadline.
func (c cron) next(t time.Time) time.Time {
	l := t.In(c.zone)
	wall := time.Date(l.Year(), l.Month(), l.Day(), l.Hour(), l.Minute(), l.Second(), l.Nanosecond(), time.UTC)
	for {
		var err error
		if wall, err = gronx.NextTickAfter(c.expr, wall, false); err != nil {
			return time.Time{}
		}
		if at := c.instant(wall); at.After(t) {
			return at
		}
	}
}

// instant is when the clock on the wall shows what the fields of wall say.
func (c cron) instant(wall time.Time) time.Time {
	at := func(near time.Time) time.Time {
		_, offset := near.In(c.zone).Zone()
		return wall.Add(-time.Duration(offset) * time.Second)
	}
	before, after := at(wall.Add(-36*time.Hour)), at(wall.Add(36*time.Hour))
	shows := func(t time.Time) bool {
		_, offset := t.In(c.zone).Zone()
		return t.Add(time.Duration(offset) * time.Second).Equal(wall)
	}
	first, last := before, after
	if last.Before(first) {
		first, last = last, first
	}
	if !shows(last) && shows(first) {
		return first
	}
	return last
}
