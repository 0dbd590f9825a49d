"""The methods of stage 1 by name; a method is in its own folder and in this one line."""

from method.base import Method
from method.crt.method import CRTMethod
from method.hsc.method import HSC_METHODS
from method.msa.method import MSA_METHODS
from method.ppc.method import PPC_METHODS

METHODS: dict[str, Method] = {method.name: method for method in (*HSC_METHODS, *PPC_METHODS, CRTMethod(), *MSA_METHODS)}
