"""A trigram in every layout that KenLM writes: what its ``build_binary`` makes of ARPA, packed."""

from __future__ import annotations

import base64
import zlib

ARPA = """\\data\\
ngram 1=5
ngram 2=5
ngram 3=3

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.25
-0.75\t</s>
-0.5\ta\t-0.125
-0.625\tb\t-0.0625

\\2-grams:
-0.25\t<s> a\t-0.5
-0.375\ta b\t-0.25
-0.5\tb a\t-0.125
-0.3125\tb </s>
-0.875\ta </s>

\\3-grams:
-0.125\t<s> a b
-0.25\ta b </s>
-0.75\tb a b

\\end\\
"""
_PACKED = {
    "probing": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhaD7Gp)DnHf+4NW7p<aj#`tDOitScJ}2<;^OS+>W~3f&i9YC#SgNXfNXOutx2_ix?izis5-D8<X8rVV~"
        "2p$J_ZH{dkCKaL<9K>K)PWsOf|<Rri_-2#=<~-b|Cd@dT)y`C#J0d`4yyI?7Y|Kbv0QM3=9cSbMXVsHuDR64mB"
        "$<Ff6bGsc$TL`=PeFrWN8Au$gcWcx9?WO1yFrNKWlbJKrDMiFqJ9xw$vKYEtiZ2fBT~O=(`X9fM6V5bFbpM1~{"
        "=02IVr?f"
    ),
    "rest-probing": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhajL=s~~qnQ~{0Z6={PI0egTPawNV0QN9OXA|}=<1LGSI+m3wZ#vznSg9_Ev-qlf4X0>V5mB<ALLjFee"
        "4jBxer1+*h9oYd<GDEAB3#{WH;=E@DYIH6H`XZMq^>1Id)Jz`_}Z{7GX|ITLTIQsQUe4=e<6!tI3jJU`T-43#N"
        "$znr-G6_8e+fU|?8a2Xk9v(c2HT)ite9JNH9rI0(ElRUsu_xd<e#_NATgkL|=fkXyL9H@<38?{)|JbH7b#UbY>"
        "BO)(Jb1Bpb2BnAM!zGz4"
    ),
    "trie": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhajf{KAKD^!jZMGXY7K<R=y#l4nor3`}E*_SVgi?eg(eE(Qm{2<$0OKVc?pYB%(9S8P<9Dv{-I|StJLo"
        "yO1kHmKXt7n4q6@dJPy(|o<fRzC|0J{GR5dU!kYLW+HeV{?VL7oB%1jvJo0}6Zt3jAV&xeullDDeeo>;ZQMh6V"
        "D-X4;hIW!o{>6x%T*GT7(?sU!vfNp(P8"
    ),
    "quantised trie": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhajhKhkOD^!jZMGXY7K<R=y#l4nor3`}E*_SVgi?eg(eE(Qm{2<$0OKVc?pYB&M^-Ro6FgF10P1p~?3_"
        "yHf9|SJ|;)Z=71yF@RIfs1^^&sr9AAuWSYC(GUBk2KxV~3z}3<z@=koXQ@^-OTS0?53*EDWfCl>s~W_(74$a26"
        "vEjGyHP3qb~((!6Xt2Ag6#hC~J%eIS*@001?9PPP"
    ),
    "array trie": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhajfr^1JD^!jZMGXY7K<R=y#l4nor3`}E*_SVgi?eg(eE(Qm{2<$0OKVc?pYB%(9S8P<9Dv{-I|StJLo"
        "yO1kHmKXt7n4q6@dJPy(|o<fRzCU5W^}8^wt+3{^JBROCE^zf#&}P`4uP-AP=$yDDVv^@QV%RY?xM{#227#2iz"
        "GL7RV!;X;Ye)ZO33!Y{!tuV51MDk{AHJ<Un="
    ),
    "quantised array trie": (
        "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?B"
        "UFYNOdhajg^GbND^!jZMGXY7K<R=y#l4nor3`}E*_SVgi?eg(eE(Qm{2<$0OKVc?pYB&M^-Ro6FgF10P1p~?3_"
        "yHf9|SJ|;)Z=71yF@RIfs1^^&sr9AAuWSYC(GUBk2KxV~3z}3<z@=koXQ@^-OTS0?53*EDWfCl>rA3!z%jmgCd"
        "jREJhv}Kg$mmunab(dD(UhHpO-fi3~RSKq`p=0F@<9&H"
    ),
}


def kenlm_binaries() -> dict[str, bytes]:
    """Layout -> the bytes of its file."""
    return {name: zlib.decompress(base64.b85decode(text)) for name, text in _PACKED.items()}
