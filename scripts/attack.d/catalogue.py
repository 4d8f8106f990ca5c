"""All attacks, in the order in which they run."""

import amplify
import control
import crowd
import flood
import refused
import reset
import unfinished
import unread

ATTACKS = {
    attack.name: attack
    for module in (control, reset, unfinished, unread, amplify, refused, flood, crowd)
    for attack in module.ATTACKS
}
