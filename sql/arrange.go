package sql

import "slices"

// arrange puts the relations of FROM into the order in which they are read, and each condition where it is decided. As they
// are written, but if kv is among them: then that comes first which others can be looked up by.
func (p *fromPlan) arrange() {
	if !p.readsKV {
		for i := range p.steps {
			step := &p.steps[i]
			step.on = allOf(step.conds)
			for _, cond := range step.after {
				step.where = append(step.where, cond.x)
			}
		}
		return
	}
	arranged, known := p.arrangeFirst()
	for _, i := range p.order()[len(arranged):] {
		step := p.steps[i]
		step.read(known)
		known |= step.itself()
		arranged = append(arranged, step)
	}
	p.steps = arranged
}

// itself is the step's relation.
func (s *joinStep) itself() relations { return 1 << s.number }

// order is that in which the relations are written.
func (p *fromPlan) order() []int {
	list := make([]int, len(p.steps))
	for i := range list {
		list[i] = i
	}
	return list
}

// arrangeFirst arranges the relations before the first that depends on others: all of them joined by inner joins, whose
// conditions are as good as those of WHERE.
func (p *fromPlan) arrangeFirst() (arranged []joinStep, known relations) {
	var pool []condition
	var left []int
	for i := range p.untilRight() {
		if p.steps[i].left || p.steps[i].lateral {
			break
		}
		left = append(left, i)
		pool = slices.Concat(pool, p.steps[i].conds, p.steps[i].after)
	}
	for len(left) > 0 {
		best, least := 0, 4
		for k, i := range left {
			if rank := p.steps[i].rank(decidable(pool, known|p.steps[i].itself()), known); rank < least {
				best, least = k, rank
			}
		}
		i := left[best]
		left = slices.Delete(left, best, best+1)
		step := p.steps[i]
		with := known | step.itself()
		step.conds, step.after = decidable(pool, with), nil
		pool = slices.DeleteFunc(pool, func(c condition) bool { return c.refs&^with == 0 })
		step.read(known)
		known = with
		arranged = append(arranged, step)
	}
	return arranged, known
}

// untilRight is how many steps come before those that are part of a RIGHT JOIN.
func (p *fromPlan) untilRight() int {
	for i := range p.steps {
		if p.steps[i].right {
			return p.steps[i].tree
		}
	}
	return len(p.steps)
}

// decidable are the conditions that refer to known relations alone.
func decidable(conds []condition, known relations) (list []condition) {
	for _, cond := range conds {
		if cond.refs&^known == 0 {
			list = append(list, cond)
		}
	}
	return list
}

// rank tells how soon a relation is best read: keys that are known are looked up, what is not kv is small, and a range of
// kv is smaller than all of it.
func (s *joinStep) rank(conds []condition, known relations) int {
	if s.kv == nil {
		return 1
	}
	a := *s.kv
	a.known = known
	a.take(conds)
	switch {
	case a.points != nil:
		return 0
	case len(a.lower)+len(a.upper)+len(a.like) > 0:
		return 2
	}
	return 3
}

// read settles how the rows of a step are found when others are known, and puts each of its conditions where it is decided.
// A RIGHT JOIN has to find all.
func (s *joinStep) read(known relations) {
	conds := s.conds
	if !s.outer() {
		conds, s.after = slices.Concat(conds, s.after), nil
	}
	if s.kv != nil && !s.right {
		s.kv.known = known
		conds = s.kv.take(conds)
		s.lateral = known == 0 || s.kv.refs != 0
		own := decidable(conds, s.itself())
		if s.lateral {
			own = conds
		}
		s.kv.filter = allOf(own)
		conds = slices.DeleteFunc(conds, func(c condition) bool { return s.lateral || c.refs&^s.itself() == 0 })
	}
	s.on = allOf(conds)
	for _, cond := range s.after {
		s.where = append(s.where, cond.x)
	}
}
